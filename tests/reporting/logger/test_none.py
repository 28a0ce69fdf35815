from cl_fisher.reporting.logger.none import NoLogger


def test_leaves_nothing(tmp_path, events):
    logger = NoLogger(directory=tmp_path)
    for event in events:
        logger.handle(event)
    logger.load_state_dict(logger.state_dict())
    assert list(tmp_path.iterdir()) == []
