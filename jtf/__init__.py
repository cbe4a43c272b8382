"""jtf: train one trading policy per symbol from 15-minute bars that also sees the hourly picture."""
