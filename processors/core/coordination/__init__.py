"""The machines of coordination: each holds one partition's state of one primitive, and knows neither clock nor broker."""
