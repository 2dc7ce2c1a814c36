"""The frame every process of the house stands in: settings, logs, supervised children.

Enters: the environment and the command line. Leaves: frozen settings and running children.
Never: anything about exchanges, money or HTTP.
"""
