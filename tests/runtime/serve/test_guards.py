import pytest

from runtime.serve.guards import Guard, TokenError, is_loopback, token_from_file
from runtime.serve.replies import Refusal

TOKEN = "a-token-of-many-letters"
HERE = {"host": "127.0.0.1:8000"}


def refused(guard, headers, **how):
    with pytest.raises(Refusal) as caught:
        guard.check(headers, **how)
    return caught.value.status


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000", "127.0.0.53"])
def test_this_machines_server_is_called_by_its_own_names(host):
    Guard(loopback=True).check({"host": host})


@pytest.mark.parametrize("host", ["", "evil.org", "127.0.0.1.evil.org", "evil.org:127", "localhost.evil.org", "[::2]"])
def test_and_by_no_other_but_where_it_was_told_to_serve_others(host):
    assert refused(Guard(loopback=True), {"host": host}) == 403
    Guard(loopback=False).check({"host": host})


def test_a_probe_that_names_no_host_is_answered():
    Guard(loopback=True).check({})


def test_a_proxy_of_this_machine_hands_on_the_name_that_is_allowed():
    guard = Guard(loopback=True, names=["Street.example.org"])
    guard.check({"host": "street.example.org:443", "origin": "https://street.example.org:443"})
    guard.check({"host": "localhost:8000"})
    for host in ("", ":80", "evil.street.example.org", "street.example.org.evil.org", "street.example.org:x"):
        assert refused(guard, {"host": host}) == 403
    assert refused(guard, {"host": "street.example.org", "origin": "https://evil.org"}) == 403


def test_this_machines_own_addresses_are_known_as_they_are_listened_on():
    assert all(map(is_loopback, ("127.0.0.1", "::1", "127.0.0.2", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "::2", "192.168.1.1", "::ffff:192.168.1.1", "fe80::1%eth0")))


def test_a_page_of_another_site_may_not_ask():
    guard = Guard(loopback=False)
    guard.check({"host": "cam.lan:8000", "origin": "http://cam.lan:8000"})
    for origin in ("http://evil.org", "null", "http://cam.lan"):
        assert refused(guard, {"host": "cam.lan:8000", "origin": origin}) == 403


@pytest.mark.parametrize("given", [None, "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer tök"])
def test_without_the_token_nothing_but_health_is_answered(given):
    headers = HERE | ({} if given is None else {"authorization": given})
    guard = Guard(loopback=True, token=TOKEN)
    assert refused(guard, headers) == 401
    guard.check(headers, open_to_all=True)


def test_the_token_opens():
    Guard(loopback=True, token=TOKEN).check(HERE | {"authorization": f"bearer {TOKEN}"})


def test_engines_are_changed_by_the_administrators_token_alone():
    with pytest.raises(Refusal, match="--admin-token-file") as caught:
        Guard(loopback=True, token=TOKEN).check_admin({"authorization": f"Bearer {TOKEN}"})
    assert caught.value.status == 403
    guard = Guard(loopback=True, token=TOKEN, admin_token=TOKEN + "2")
    guard.check_admin({"authorization": f"Bearer {TOKEN}2"})
    with pytest.raises(Refusal):
        guard.check_admin({"authorization": f"Bearer {TOKEN}"})


def test_a_token_is_one_line_of_a_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    assert token_from_file(path) == TOKEN


@pytest.mark.parametrize("text", ["", "short", "two words that are long enough", "x" * 5000, "schön" * 5, "a\nb" * 10])
def test_a_file_without_a_token_is_one_line(tmp_path, text):
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(TokenError, match="no token"):
        token_from_file(path)
    with pytest.raises(TokenError, match="cannot be read"):
        token_from_file(tmp_path / "nix")
