"""What the tests need to drive the daemon with real peers, browsers and players, and to judge what comes out."""
