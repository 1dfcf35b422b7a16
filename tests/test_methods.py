"Every registered method keeps the promises that users rely on"
import warnings
warnings.filterwarnings('ignore', category=FutureWarning)
from edf_nrr.methods import METHODS
from edf_nrr.checks import parametrize_with_checks, run_check

@parametrize_with_checks(METHODS)
def test_methods(method, check): run_check(method, check)
