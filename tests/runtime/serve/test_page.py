"""The page in a headless Chromium, over engines made of NumPy."""

import dataclasses
import re
import shutil
import time
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from runtime.labels import CAMVID, CITYSCAPES, Label
from runtime.media.frames import read_frame
from runtime.samples import STREET
from runtime.serve.page import PAGE, page_reply
from tests.helpers.fake_backend import PICTURE, SPEC, expected_mask, write_fake_engine
from tests.helpers.fake_server import server
from tests.helpers.pictures import gradient

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
FRAME = gradient()
STRANGE = tuple(Label(f"class {i}", own.color) for i, own in enumerate(CAMVID))
TOKEN = "a-token-of-many-letters"
PATIENCE_S = 15.0


def test_the_page_names_no_other_host_and_may_ask_none():
    text = PAGE.read_text()
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", re.sub(r"^\s*//.*$", "", text, flags=re.M)) == []
    policy = page_reply().headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "unsafe" not in policy


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-serve does")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on the PATH (Debian: chromium)")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", *FAKE_CAMERA])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Engines of four lists of classes: `backwards` has those of the first two under other numbers."""
    folder = tmp_path_factory.mktemp("page")
    lists = {"street": CAMVID, "other": CAMVID, "backwards": CAMVID[::-1], "cityscapes": CITYSCAPES, "ids": STRANGE}
    options: list[object] = []
    for name, classes in lists.items():
        options += ["--engine", write_fake_engine(folder, name=name, spec=dataclasses.replace(SPEC, classes=classes))]
    with server(*options, folder=folder) as found:
        yield found


@pytest.fixture
def page(browser, running):
    """The page, as a person sees it first; it may ask its own server alone, and write nothing on the console."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, permissions=["camera"])
    opened, asked, said = context.new_page(), [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda line: said.append(line.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.set_default_timeout(15_000)
    opened.goto(f"http://127.0.0.1:{running.port}/")
    until(opened, "engines.length > 0")
    yield opened
    context.close()
    hosts = {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {f"127.0.0.1:{running.port}"}
    assert [line for line in said if "status of 400" not in line] == []


def until(page, expression):
    """Wait until it is true; the page's policy forbids what `wait_for_function` does."""
    end = time.monotonic() + PATIENCE_S
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def upload(page, data=PICTURE, name="a.png"):
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": data})


def shown_mask(page):
    """The ids that the page holds."""
    values = page.evaluate("[shown.seen[0].height, shown.seen[0].width, Array.from(shown.seen[0].mask)]")
    return np.array(values[2], np.uint8).reshape(values[:2])


@pytest.mark.serve
def test_a_picture_that_is_opened_is_shown_under_its_classes(page):
    upload(page)
    page.wait_for_selector(".stack")
    assert np.array_equal(shown_mask(page), expected_mask(FRAME))
    counts = np.bincount(expected_mask(FRAME).ravel(), minlength=len(CAMVID))
    largest = CAMVID[int(counts.argmax())].name
    assert page.locator("#legend li").first.text_content().startswith(largest)
    assert page.locator("#legend li").count() == int((counts > 0).sum())
    stages = page.locator("#stages").text_content()
    assert all(name in stages for name in ("decode", "queue", "network", "encode", "request"))
    assert page.locator("#message").text_content() == ""


@pytest.mark.serve
def test_the_sample_is_segmented(page):
    page.click("#sample")
    page.wait_for_selector(".stack")
    assert np.array_equal(shown_mask(page), expected_mask(read_frame(STREET)))


@pytest.mark.serve
def test_a_bad_file_is_told_in_words_and_the_next_good_one_is_shown(page):
    upload(page, b"garbage")
    until(page, "document.getElementById('message').textContent !== ''")
    assert "not an image" in page.locator("#message").text_content()
    upload(page, b"")
    until(page, "document.getElementById('message').textContent === 'The file is empty.'")
    upload(page)
    page.wait_for_selector(".stack")
    assert page.locator("#message").text_content() == ""


@pytest.mark.serve
def test_a_dropped_picture_is_taken(page):
    page.evaluate(
        """(bytes) => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], 'a.png', {type: 'image/png'}));
        document.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})); }""",
        list(PICTURE),
    )
    page.wait_for_selector(".stack")
    assert np.array_equal(shown_mask(page), expected_mask(FRAME))


@pytest.mark.serve
def test_the_class_under_the_cursor_and_under_the_keys_is_named(page):
    upload(page)
    box = page.wait_for_selector(".stack").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.75)
    x, y = page.evaluate("spot")
    height, width = FRAME.shape[:2]
    name = CAMVID[expected_mask(FRAME)[int(y * height), int(x * width)]].name
    assert page.locator("#under").text_content() == name
    page.locator(".stack").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("spot")[0] == pytest.approx(x + 0.01)


@pytest.mark.serve
def test_everything_is_reached_by_the_keyboard(page):
    upload(page)
    page.wait_for_selector(".stack")
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"file", "sample", "webcam", "engine", "beside", "opacity", "colors", "stack"} <= reached
    page.locator("#opacity").focus()
    page.keyboard.press("Home")
    assert page.locator(".mask").evaluate("canvas => canvas.style.opacity") == "0"


@pytest.mark.serve
def test_two_engines_stand_side_by_side_and_what_differs_is_red(page):
    upload(page)
    page.wait_for_selector(".stack")
    page.select_option("#beside", "other")
    until(page, "document.querySelectorAll('.stack').length === 2")
    caption = page.locator("figcaption").nth(1)
    assert "0.00 % of the pixels differ" in caption.text_content()
    page.evaluate("shown.seen[1].mask[0] = (shown.seen[1].mask[0] + 1) % 11; draw()")
    first = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 1, 1).data)"
    assert page.locator(".red").nth(1).evaluate(first) == [255, 0, 0, 255]
    assert page.locator(".red").nth(0).evaluate(first) == [0, 0, 0, 0]
    image, marks = (
        np.array(page.evaluate(f"Array.from(colored(shown.seen[1], shown.seen[0])[{i}].data)")).reshape(-1, 4)
        for i in (0, 1)
    )
    assert (image[:, 0] == image[:, 1]).all() and (image[:, 1] == image[:, 2]).all()  # grey: a class may be red
    assert np.count_nonzero(marks[:, 3]) == 1
    page.uncheck("#differ")
    assert page.evaluate("colored(shown.seen[1], shown.seen[0])[1].data.every((value) => value === 0)")


def beside(page, name):
    """A picture through `street` and this engine: the second caption."""
    upload(page)
    page.wait_for_selector(".stack")
    page.select_option("#beside", name)
    until(page, f"shown.seen.length === 2 && shown.seen[1].engine.name === '{name}'")
    return page.locator("figcaption").nth(1).text_content()


@pytest.mark.serve
def test_engines_that_number_their_classes_otherwise_are_compared_by_name(page):
    caption, mask = beside(page, "backwards"), expected_mask(FRAME)
    middle = len(CAMVID) // 2  # whose number is the same from either end
    assert caption.endswith(f"; {100 * (mask != middle).mean():.2f} % of the pixels differ")
    marks = page.evaluate("Array.from(colored(shown.seen[1], shown.seen[0])[1].data)")
    assert np.array_equal(np.array(marks).reshape(*mask.shape, 4)[..., 3] == 255, mask != middle)
    page.evaluate(f"shown.seen[1].mask = shown.seen[1].mask.map((id) => {len(CAMVID) - 1} - id); draw()")
    assert page.locator("figcaption").nth(1).text_content().endswith("; 0.00 % of the pixels differ")


@pytest.mark.serve
def test_classes_that_one_engine_alone_knows_differ_and_are_counted(page):
    caption, mask = beside(page, "cityscapes"), expected_mask(FRAME)
    same = [own.name == other.name for own, other in zip(CAMVID, CITYSCAPES, strict=False)]
    names, others = ({label.name for label in labels} for labels in (CAMVID, CITYSCAPES))
    assert f"; {100 * (1 - np.array(same)[mask].mean()):.2f} % of the pixels differ, by the names" in caption
    assert caption.endswith(f" {len(names ^ others)} stand in one list alone")


@pytest.mark.serve
def test_engines_without_a_class_in_common_are_not_compared(page):
    assert beside(page, "ids").endswith("; not compared: no class of the two has the same name")
    assert page.evaluate("colored(shown.seen[1], shown.seen[0])[1].data.every((value) => value === 0)")
    seen = page.evaluate("Array.from(colored(shown.seen[1], shown.seen[0])[0].data)")
    assert seen == page.evaluate("Array.from(colored(shown.seen[1], null)[0].data)")  # in its colours, not grey


@pytest.mark.serve
def test_each_of_two_engines_has_its_own_legend_and_its_own_name_under_the_cursor(page):
    beside(page, "backwards")
    mask = expected_mask(FRAME)
    counts = np.bincount(mask.ravel(), minlength=len(CAMVID))
    assert page.locator("#legend h3").all_text_contents() == ["street", "backwards"]
    for i, labels in enumerate((CAMVID, CAMVID[::-1])):
        lines = page.locator("#legend ul").nth(i).locator("li").all_text_contents()
        expected = {f"{label.name}{100 * n / mask.size:.1f} %" for label, n in zip(labels, counts, strict=True) if n}
        assert set(lines) == expected and len(lines) == len(expected)
    box = page.locator(".stack").nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4)
    x, y = page.evaluate("spot")
    seen = mask[int(y * mask.shape[0]), int(x * mask.shape[1])]
    names = dict.fromkeys([CAMVID[seen].name, CAMVID[::-1][seen].name])
    assert page.locator("#under").text_content() == " | ".join(names)


@pytest.mark.serve
def test_the_point_and_the_focus_stay_while_frames_of_the_webcam_come(page):
    page.click("#webcam")
    page.locator(".stack").focus()
    page.keyboard.press("ArrowRight")
    for step in range(2, 5):
        asked = page.evaluate("asking")
        until(page, f"asking > {asked} + 2")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.className") == "stack"
        assert page.evaluate("spot")[0] == pytest.approx(0.5 + 0.01 * step)
        assert page.locator(".spot").count() == 1 and page.locator(".spot").is_visible()
    assert page.locator("#under").text_content() in {label.name for label in CAMVID}
    page.click("#webcam")


@pytest.mark.serve
def test_the_webcam_is_segmented_until_it_is_stopped(page):
    page.click("#webcam")
    until(page, "document.getElementById('rate').textContent.includes('frames a second')")
    assert page.locator("#webcam").get_attribute("aria-pressed") == "true"
    page.click("#webcam")
    until(page, "document.getElementById('video').srcObject === null")
    asked = page.evaluate("asking")
    page.wait_for_timeout(300)
    assert page.evaluate("asking") == asked and page.locator("#message").text_content() == ""


@pytest.mark.serve
@pytest.mark.parametrize("width", [360, 412, 768])
def test_on_a_phone_nothing_is_wider_than_the_screen(page, width):
    page.set_viewport_size({"width": width, "height": 740})
    upload(page)
    page.wait_for_selector(".stack")
    page.select_option("#beside", "other")
    until(page, "document.querySelectorAll('.stack').length === 2")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("sample", "webcam", "engine"):
        assert page.locator(f"#{name}").bounding_box()["height"] >= 40


@pytest.mark.serve
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_light_that_is_wanted(page, scheme):
    page.emulate_media(color_scheme=scheme)
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back))) < 200) == (scheme == "dark")


@pytest.mark.serve
def test_a_picture_that_no_browser_shows_is_segmented_all_the_same(page):
    data = cv2.imencode(".tiff", np.ascontiguousarray(FRAME[..., ::-1]))[1].tobytes()
    upload(page, data, "a.tiff")
    page.wait_for_selector(".stack")
    assert np.array_equal(shown_mask(page), expected_mask(FRAME))
    assert "does not show" in page.locator("figcaption").text_content()


@pytest.fixture
def locked(browser, tmp_path):
    """The page of a server that wants a token, which nobody has given yet."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    engine = write_fake_engine(tmp_path)
    with server("--engine", engine, "--token-file", tmp_path / "token", folder=tmp_path) as found:
        context = browser.new_context(permissions=["camera"])
        opened = context.new_page()
        opened.set_default_timeout(15_000)
        opened.goto(f"http://127.0.0.1:{found.port}/")
        until(opened, "!document.getElementById('token-row').hidden")
        yield opened
        context.close()


WANTED = "document.getElementById('message').textContent === 'Give the token of this server.'"
NOTHING_SAID = "document.getElementById('message').textContent === ''"


def give(page, token):
    page.fill("#token", token)
    page.click("#token-use")


@pytest.mark.serve
def test_a_token_is_asked_for_where_the_server_wants_one(locked):
    give(locked, TOKEN)
    until(locked, "engines.length === 1")
    locked.click("#sample")
    locked.wait_for_selector(".stack")
    assert not locked.locator("#token-row").is_visible()


@pytest.mark.serve
def test_what_is_asked_for_without_the_token_says_so_and_is_done_when_it_is_given(locked):
    for ask in (lambda: locked.click("#webcam"), lambda: locked.click("#sample"), lambda: upload(locked)):
        locked.evaluate("say('nothing yet')")
        ask()
        until(locked, WANTED)
    assert locked.locator("#webcam").get_attribute("aria-pressed") == "false"
    for wrong in ("another-token-of-many-letters", "ключ-от-чужой-двери"):
        locked.evaluate("say('nothing yet')")
        give(locked, wrong)
        until(locked, "document.getElementById('message').textContent === WRONG_TOKEN")
    give(locked, TOKEN)
    locked.wait_for_selector(".stack")
    assert np.array_equal(shown_mask(locked), expected_mask(FRAME))
    assert locked.evaluate(NOTHING_SAID) and not locked.locator("#token-row").is_visible()
    locked.click("#webcam")
    until(locked, "document.getElementById('rate').textContent.includes('frames a second')")


@pytest.mark.serve
def test_a_token_that_is_no_longer_right_is_asked_for_again_and_the_picture_is_shown_anew(locked):
    give(locked, TOKEN)
    upload(locked)
    locked.wait_for_selector(".stack")
    locked.evaluate("token = ''; again()")
    until(locked, WANTED)
    asked = locked.evaluate("asking")
    give(locked, TOKEN)
    until(locked, f"asking > {asked} && {NOTHING_SAID}")
