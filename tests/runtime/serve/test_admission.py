import pytest

from runtime.serve.admission import Admission
from runtime.serve.replies import Refusal


def test_as_many_are_let_in_as_there_are_lanes_and_places_and_one_more_when_one_is_done():
    admission = Admission(lanes=1, queue=1)
    with admission.place():
        with admission.place():
            with pytest.raises(Refusal) as caught, admission.place():
                pass
            assert caught.value.status == 503 and int(caught.value.headers["Retry-After"]) >= 1
            assert admission.taken == 2
        with admission.place():
            assert admission.taken == 2
    assert admission.taken == 0


def test_a_place_is_given_back_by_work_that_fails():
    admission = Admission(lanes=1, queue=0)
    for _ in range(3):
        with pytest.raises(KeyError), admission.place():
            raise KeyError
    assert admission.taken == 0


def test_who_comes_when_the_server_stops_is_sent_away_and_who_is_in_stays():
    admission = Admission(lanes=1, queue=5)
    with admission.place():
        admission.closed = True
        with pytest.raises(Refusal, match="stopping"), admission.place():
            pass
        assert admission.taken == 1


def test_who_is_refused_is_told_to_come_after_about_the_time_of_one_request():
    admission = Admission(lanes=1, queue=0)
    admission._mean_s = 2.5
    with admission.place(), pytest.raises(Refusal) as caught, admission.place():
        pass
    assert caught.value.headers["Retry-After"] == "3"
