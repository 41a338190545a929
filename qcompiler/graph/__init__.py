"""Views of the graph that passes share: what holds a weight, and how QDQ is put in."""
