"""Inits. An init is f(net, x, …): it overwrites the weights of every linear and convolutional layer in place.

x [B, C, H, W] is a batch as the net will see it, for inits that look at data. Biases become zero unless an init says
otherwise. All draw from torch's global generator, which the run has seeded, layer by layer in the order of
`net.modules()`.
"""
