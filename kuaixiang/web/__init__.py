"""What the web pages of a bureau's desk and of a hub's board have in common: signing in, safety, language, style.

`Console` puts the parts together; a service gives it its routes, its templates, its words and who may step in.
"""
