"""What each step from PSPNet50 to ICNet buys on this machine, and what every network costs: `streetseg study`."""
