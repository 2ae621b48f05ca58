"""Drop-in applets: one a file. Folders named in ``[applets] path`` join this package's path."""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
