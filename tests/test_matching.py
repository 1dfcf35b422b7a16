"Memory of the matching gradient, and its compiler"
import subprocess,sys
from pathlib import Path
import pytest, torch
from edf_nrr.models import create_model, flatten_params
from edf_nrr.matching import CompiledStep

PEAK = '''
import sys, torch
from pathlib import Path
from edf_nrr.basics import kept_memory, rng
from edf_nrr.matching import adjoint_gradient, draw_batches, forward_fn, unrolled_gradient
from edf_nrr.models import create_model, flatten_params

def mb(key): return next(int(l.split()[1])/1024 for l in Path('/proc/self/status').read_text().splitlines() if l.startswith(key))
net = create_model('convnet_d2_w32', 10, 16)
start,f,steps = flatten_params(net),dict(adjoint=adjoint_gradient, unrolled=unrolled_gradient)[sys.argv[1]],int(sys.argv[2])
x,y = torch.randn(100, 3, 16, 16, generator=rng(0)),torch.randn(100, 10, generator=rng(1))
def gradient(n): f(forward_fn(net), start, start+.1, x[:1] if n==1 else x, y[:1] if n==1 else y, torch.tensor(.01), draw_batches(1 if n==1 else 100, 100, n, rng(2)), [None]*n)
gradient(1)
Path('/proc/self/clear_refs').write_text('5')
before = mb('VmRSS')
with kept_memory(): gradient(steps)
print(mb('VmHWM')-before)
'''

def peak(form, steps): return float(subprocess.run([sys.executable, '-c', PEAK, form, str(steps)], capture_output=True, text=True, check=True).stdout)

@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='needs /proc')
def test_the_adjoint_does_not_grow_with_its_steps():
    # a process's own peak varies by some 10 MB of 70; the graph of one step more would be 23
    few,many,unrolled = peak('adjoint', 5),peak('adjoint', 40),peak('unrolled', 40)
    assert many<1.5*few, f'{few:.0f} MB for 5 steps, {many:.0f} MB for 40'
    assert many<unrolled/4, f'{many:.0f} MB, unrolled {unrolled:.0f} MB'

def test_import_loads_no_compiler():
    "What `edf_nrr.models` loads aside, `import edf_nrr.matching` leaves torch's compiler alone"
    src = "import sys, edf_nrr.models; had = set(sys.modules); import edf_nrr.matching; print(*set(sys.modules)-had)"
    loaded = subprocess.run([sys.executable, '-c', src], capture_output=True, text=True, check=True).stdout.split()
    assert 'edf_nrr.matching' in loaded and not [o for o in loaded if o.startswith(('torch._dynamo', 'torch._inductor'))]

def test_no_compiler_is_said():
    from torch._dynamo.exc import BackendCompilerFailed
    net = create_model('convnet_d1_w8', 10, 8, 1)
    step = CompiledStep(net)
    def fails(*args): raise BackendCompilerFailed(lambda: None, RuntimeError('no g++'), None)
    step.gradient = fails
    with pytest.raises(RuntimeError, match=r"cannot be compiled here(.|\n)*gradient='adjoint' in EDFConfig"):
        step.out(flatten_params(net), torch.zeros(2, 1, 8, 8), torch.full((2, 10), .1), None, None, False)
