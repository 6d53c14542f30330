"""From a plan and a place in a gang to a run that ends with a typed report."""
