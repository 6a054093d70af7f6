"""Curves read from event files are those that TensorBoard reads."""

import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from seedbed.report.events import LARGEST, TAGS, curves, read_scalars


def test_scalars_of_a_real_run_are_those_that_tensorboard_reads(fit):
    run = fit("model=linear", "trainer.max_epochs=3")
    found = read_scalars(str(run.folder), frozenset(TAGS))
    assert found.keys() == {"train/loss", "val/loss", "val/accuracy"}
    for tag, steps in found.items():
        assert steps == {event.step: event.value for event in run.events(tag)}
        assert len(steps) == 3


def test_curves_are_a_row_a_job_and_end_where_the_job_ended(tmp_path, write_curves):
    for name, losses in (("0", [3.0, 2.0, 1.0]), ("1", [0.5]), ("2", [])):
        (tmp_path / name).mkdir()
        write_curves(tmp_path / name, {"val/loss": losses})
    found = curves(f"{tmp_path}/{name}" for name in ("0", "1", "2", "missing"))
    assert found.keys() == {"val/loss"}
    nan = np.nan
    np.testing.assert_equal(found["val/loss"], [[3, 2, 1], [0.5, nan, nan], [nan] * 3, [nan] * 3])


def test_killed_run_counts_to_its_last_whole_record(tmp_path, write_curves):
    write_curves(tmp_path, {"val/loss": [3.0, 2.0, 1.0]})
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for cut in (1, 5, 20):
        file.write_bytes(whole[:-cut])
        assert list(read_scalars(str(tmp_path), frozenset(TAGS))["val/loss"].values()) == [3, 2]


def test_step_that_a_resumed_run_wrote_again_is_the_later_one(tmp_path, write_curves):
    write_curves(tmp_path, {"val/loss": [3.0, 2.0, 7.0]}, "events.out.tfevents.1.host")
    write_curves(tmp_path, {"val/loss": [3.0, 2.0, 1.0, 0.5]}, "events.out.tfevents.2.host")
    assert curves([str(tmp_path)])["val/loss"].tolist() == [[3, 2, 1, 0.5]]


def test_pictures_among_the_events_are_stepped_over(tmp_path):
    with open(tmp_path / "events.out.tfevents.1", "wb") as file:
        writer = RecordWriter(file)
        for step in (1, 2):
            picture = Summary.Value(tag="picture", image=Summary.Image(encoded_image_string=bytes(10 * LARGEST)))
            loss = Summary.Value(tag="val/loss", simple_value=step)
            for value in (picture, loss):
                writer.write(Event(step=step, summary=Summary(value=[value])).SerializeToString())
    assert curves([str(tmp_path)])["val/loss"].tolist() == [[1, 2]]


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_loss_that_is_not_finite_is_kept_as_such(tmp_path, write_curves, value):
    write_curves(tmp_path, {"val/loss": [1.0, value]})
    np.testing.assert_equal(curves([str(tmp_path)])["val/loss"], [[1, value]])
