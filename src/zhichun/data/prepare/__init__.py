"""From a catalogue and judgements to a dataset folder: a list of steps that count what they keep, drop and make."""
