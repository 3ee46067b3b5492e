from export import registry
from streetseg.study.points import BRANCH, CASCADE, FRAME, KERNELS, SCALE, STRIDE, STUDY


def test_points_have_names_of_their_own_and_networks_that_take_their_size():
    points = (*STUDY, *CASCADE)
    assert len({point.name for point in points}) == len(points)
    for point in points:
        registry.check_size(registry.find(point.model), *point.size)


def test_the_first_point_is_what_the_others_are_compared_with():
    assert (STUDY[0].series, STUDY[0].step, STUDY[0].size) == (SCALE, "1", FRAME) and STUDY[0].published.ms == 446


def test_the_published_figures_rise_with_what_is_computed():
    for series in (SCALE, STRIDE, KERNELS):
        of = [point.published for point in STUDY if point.series == series]
        assert [each.ms for each in of] == sorted((each.ms for each in of), reverse=True)
        assert [each.miou for each in of] == sorted((each.miou for each in of), reverse=True)
    branches = [point.published for point in STUDY if point.series == BRANCH]
    assert branches == sorted(branches)


def test_the_cascade_is_compared_on_frames_of_its_own_size():
    assert {point.series for point in CASCADE} == {BRANCH} and {point.step for point in CASCADE} == {
        "sub4", "sub24", "sub124",
    }  # fmt: skip
    assert all(point.frame == point.size for point in CASCADE)
    assert all(point.frame == FRAME for point in STUDY)
