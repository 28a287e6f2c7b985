"""What happens to a pair on its way: registration, tone mapping, cropping, fusion, drift, labels."""
