#!/usr/bin/env python3
"""The bytes that TensorBoard's own protobuf classes write for the events of test/report/event_file_test.cpp; needs the package tensorboard.

With a folder as argument: reads the event files in it by TensorBoard's own loader (which checks the checksums) and prints their scalars.
"""
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

if len(sys.argv) > 1:
    events = EventAccumulator(sys.argv[1])
    events.Reload()
    for tag in events.Tags()["scalars"]:
        print(tag, [(event.step, event.value) for event in events.Scalars(tag)])
else:
    print(Event(wall_time=1.5, step=300, summary=Summary(value=[Summary.Value(tag="loss", simple_value=0.25)])).SerializeToString())
    print(Event(wall_time=1.5, file_version="brain.Event:2").SerializeToString())
