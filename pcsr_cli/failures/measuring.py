"""What can be wrong with measuring: methods, pairs, grids, models that do not fit, figures."""

from pcsr_cli.errors import PlotError
from pcsr_cli.failures import Failure

NO_MATPLOTLIB = Failure(PlotError, "Plots need matplotlib.", "Install it with: pip install 'pcsr[plot]'.")
