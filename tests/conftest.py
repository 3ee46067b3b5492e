import runtime  # noqa: F401  before any library: OpenVINO reports nothing of our tests
