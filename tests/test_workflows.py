"""What the workflows may do: they run the code of whoever opens a pull request."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / ".github/workflows"
WORKFLOWS = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.yml"))}


def jobs(text):
    return re.split(r"^  (?=\w+:$)", text.partition("\njobs:\n")[2], flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_read_and_nothing_else(name):
    text = WORKFLOWS[name]
    assert re.findall(r"permissions:.*(?:\n  .*)*", text) == ["permissions:\n  contents: read"]
    assert "pull_request_target" not in text and "secrets" not in text and "write" not in text


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_by_hash_and_leave_no_token(name):
    steps = re.split(r"^      - ", WORKFLOWS[name], flags=re.MULTILINE)
    used = [step for step in steps if step.startswith("uses:")]
    assert used and all(re.match(r"uses: [\w/-]+@[0-9a-f]{40}  # v\d", step) for step in used)
    checkouts = [step for step in used if "actions/checkout" in step]
    assert checkouts and all("persist-credentials: false" in step for step in checkouts)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_pull_request_runs_on_a_machine_of_ones_own(name):
    assert jobs(WORKFLOWS[name])
    for job in jobs(WORKFLOWS[name]):
        if "self-hosted" in job:
            condition = re.search(r"^    if: (.*)$", job, re.MULTILINE)[1]
            assert "github.event_name != 'pull_request'" in condition and "refs/heads/main" in condition


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_command_has_an_expression_in_its_text(name):
    for step in re.split(r"^      - ", WORKFLOWS[name], flags=re.MULTILINE):
        run = step.partition("run:")[2].partition("\n        env:")[0]
        assert "${{" not in run
