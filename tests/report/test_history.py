"""Scalars read from event files are those that TensorBoard reads; a history is by epoch."""

import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from seedbed.event_files import PICTURE, read_scalars
from seedbed.history import read_history
from seedbed.report.gather import curves

METRICS = ("train/loss", "val/loss", "val/accuracy")


def test_scalars_of_a_real_run_are_those_that_tensorboard_reads(fit):
    run = fit("model=linear", "trainer.max_epochs=3")
    scalars = read_scalars(run.folder, METRICS)
    assert scalars.keys() == set(METRICS)
    for tag, steps in scalars.items():
        assert steps == {event.step: event.value for event in run.events(tag)}


def test_history_csv_is_read_by_epoch_with_the_untrained_network_first(tmp_path):
    text = "epoch,train/loss,val/loss,val/accuracy,lr,seconds\n0,,0.7,0.5,,0\n1,0.4,0.3,,0.1,0.5\n"
    (tmp_path / "history.csv").write_text(text)
    history = read_history(tmp_path, METRICS)
    assert history == {"train/loss": {1: 0.4}, "val/loss": {0: 0.7, 1: 0.3}, "val/accuracy": {0: 0.5}}
    np.testing.assert_equal(curves([str(tmp_path)], METRICS)["train/loss"], [[np.nan, 0.4]])


def test_killed_run_has_its_validations_by_epoch_and_no_means_of_train_loss(fit):
    run = fit("model=linear", "trainer.max_epochs=2")
    found = read_history(run.folder, METRICS)
    assert not (run.folder / "history.csv").exists() and found.keys() == {"val/loss", "val/accuracy"}
    for metric, curve in found.items():
        assert curve == pytest.approx({row["epoch"]: row[metric] for row in run.module.history}, rel=1e-6)


def test_curves_are_a_row_a_job_and_end_where_the_job_ended(tmp_path, write_curves):
    for name, losses in (("0", [3.0, 2.0, 1.0]), ("1", [0.5]), ("2", [])):
        write_curves(tmp_path / name, {"val/loss": losses})
    tables = curves((f"{tmp_path}/{name}" for name in ("0", "1", "2", "missing")), METRICS)
    assert tables.keys() == {"val/loss"}
    nan = np.nan
    expected = [[nan, 3, 2, 1], [nan, 0.5, nan, nan], [nan] * 4, [nan] * 4]
    np.testing.assert_equal(tables["val/loss"], expected)


def test_killed_run_counts_to_its_last_whole_record(tmp_path, write_curves):
    write_curves(tmp_path, {"val/loss": [3.0, 2.0, 1.0]})
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for cut in (1, 5, 20):
        file.write_bytes(whole[:-cut])
        assert read_history(tmp_path, METRICS) == {"val/loss": {1: 3, 2: 2}}


def test_step_that_a_resumed_run_wrote_again_is_the_later_one(tmp_path, write_curves):
    write_curves(tmp_path, {"val/loss": [3.0, 2.0, 7.0]}, "events.out.tfevents.1.host")
    write_curves(tmp_path, {"val/loss": [3.0, 2.0, 1.0, 0.5]}, "events.out.tfevents.2.host")
    assert read_history(tmp_path, METRICS) == {"val/loss": {1: 3, 2: 2, 3: 1, 4: 0.5}}


def test_pictures_among_the_events_are_stepped_over(tmp_path):
    with open(tmp_path / "events.out.tfevents.1", "wb") as file:
        writer = RecordWriter(file)
        for step in (1, 2):
            picture = Summary.Value(tag="picture", image=Summary.Image(encoded_image_string=bytes(10 * PICTURE)))
            loss = Summary.Value(tag="val/loss", simple_value=step)
            for value in (picture, loss):
                writer.write(Event(step=step, summary=Summary(value=[value])).SerializeToString())
    assert read_scalars(tmp_path, METRICS) == {"val/loss": {1: 1, 2: 2}}


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_loss_that_is_not_finite_is_kept_as_such(tmp_path, write_curves, value):
    write_curves(tmp_path, {"val/loss": [1.0, value]})
    np.testing.assert_equal(read_history(tmp_path, METRICS), {"val/loss": {1: 1, 2: value}})
