"""OPT itself: modules, weight layouts and the exchange with Hugging Face."""
