"""The screens in a real browser on the real stack: what people see and press, and whether everybody can."""
