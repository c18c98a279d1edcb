module pion
