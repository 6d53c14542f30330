"""One model over several processes: each holds a share of every matrix, for models larger than one device."""
