"""Binance USDⓈ-M, simulated from its documentation alone."""
