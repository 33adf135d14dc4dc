"""Pretraining of encoders on images, and the probes of what they learnt: `rlrep.pretrain`, `rlrep.probe`."""
