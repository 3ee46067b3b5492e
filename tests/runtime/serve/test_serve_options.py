import pytest

from runtime.serve.options import options_of


@pytest.mark.parametrize(
    "host",
    ["", " ", " 127.0.0.1", "0", "00", "127.1", "0x7f000001", "2130706433", "1.2.3.4.5", "*", "127.0.0.1:8000",
     "localhost:8000", "[::1]", ":8000", "http://localhost", "a b", "-x", "localhost\n", ".", "x" * 300],
)  # fmt: skip
def test_what_is_no_address_to_listen_on_is_one_line(host, capsys):
    with pytest.raises(SystemExit) as caught:
        options_of([f"--host={host}"])
    assert caught.value.code == 2 and "is no address to listen on" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "0.0.0.0", "::", "::1", "fe80::1%eth0", "localhost", "cam-1.lan", "my_service", "4f3a2b1c0d9e"],
)
def test_addresses_and_names_of_machines_are_listened_on(host):
    assert options_of(["--host", host]).host == host


@pytest.mark.parametrize("name", ["", " ", "*", "evil.org/", "street.example.org:80", "-x"])
def test_another_name_of_the_server_is_a_name_alone(name, capsys):
    with pytest.raises(SystemExit):
        options_of([f"--allow-host={name}"])
    assert "is not the name of a host" in capsys.readouterr().err
