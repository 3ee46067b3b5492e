import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from runtime.media.camera import camera_name, is_camera, shown_address
from runtime.texts import lines_shown, markdown, shown, without_credentials, xml

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\r\x00\x7f\ud800"
ADDRESSES = [
    "rtsp://admin:hunter2@10.0.0.5/live",
    "rtsp://admin:hun@ter2@10.0.0.5/live",
    "rtsp://admin:hunter2/x@10.0.0.5:554/live",
    "rtsp://admin:a?hunter2@10.0.0.5/live",
    "rtsp://admin:a#hunter2@10.0.0.5/live",
    "rtsp://hunter2@10.0.0.5/live",
    "RTSP://admin:hunter2@10.0.0.5/live",
    "rtsp://10.0.0.5/live?token=hunter2",
    "rtsp://10.0.0.5/live?channel=1&password=hunter2",
    "rtsp://10.0.0.5/live?pass%77ord=hunter2&channel=1",
    "https://10.0.0.5/live.m3u8?X-Amz-Signature=hunter2",
    "https://10.0.0.5/live?hunter2",
    "https://10.0.0.5/live?KEY=hunter2;sig=hunter2",
    "https://10.0.0.5/live#access_token=hunter2",
    "rtsp://10.0.0.5:554/user=admin&password=hunter2&channel=1",
    "rtsp://10.0.0.5:554/user=admin_password=hunter2_channel=1_stream=0.sdp",
    "srt://10.0.0.5:9000?passphrase=hunter2&mode=caller",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_shown_without_anything_secret(address):
    assert is_camera(address)
    texts = (shown(address), shown_address(address), camera_name(address), shown(Path(address)))
    for text in (*texts, without_credentials(f"error: {address}: is lost"), lines_shown(f"a\n{address}")):
        assert "hunter2" not in text and "ter2" not in text and "10.0.0.5" in text, text


def test_a_password_with_spaces_is_not_shown_where_it_is_taken_for_a_file():
    assert "hunter2" not in shown(Path("rtsp://admin:hunter2 b@10.0.0.5/live"))


def test_what_tells_one_camera_from_the_other_stays():
    assert shown("rtsp://h:554/cam?channel=2&subtype=1") == "rtsp://h:554/cam?channel=2&subtype=1"
    assert shown("see https://host/page, or mail a@b") == "see https://host/page, or mail a@b"
    assert shown("file:///x@y a@b/c") == "file:///x@y a@b/c"


def test_a_terminal_gets_no_control_character_of_a_text():
    assert shown(HOSTILE).isprintable() and shown("a\nb") == "a\\nb" and shown("straße 日本") == "straße 日本"
    assert lines_shown(f"a\tb\n{HOSTILE}").splitlines()[0] == "a\tb"


def test_a_name_that_is_not_utf8_is_shown_by_its_bytes():
    assert shown(Path("a\udcff.png")) == "a\\xff.png"


@pytest.mark.parametrize(
    "text",
    ["<script>x</script>", "<img src=x>", "a|b", "`a`", "[x](javascript:y)", "*a*", "_a_", "@all", "&lt;", "$x$"],
)
def test_markdown_makes_nothing_of_a_text(text):
    made = markdown(text)
    assert "<" not in made and made != text
    assert "](" not in made.replace("\\]", "")
    for letter in "|`*_$":
        assert made.count(letter) == made.count(f"\\{letter}")


def test_words_of_machines_stay_as_they_are_in_markdown():
    words = "Intel(R) Xeon(R) @ 2.50GHz, avx512_vnni; 1024x2048, 99.3 %"
    assert markdown(words) == words


def test_xml_is_well_formed_whatever_a_text_holds():
    element = ET.Element("a", message=xml(HOSTILE))
    element.text = xml(HOSTILE + "\ufffe\n<b>")
    assert ET.fromstring(ET.tostring(element)).text.endswith("\n<b>")
