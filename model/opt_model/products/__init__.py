"""Products of float32 matrices by a processor's matrix tiles, which multiply bfloat16 (decision record 202)."""
