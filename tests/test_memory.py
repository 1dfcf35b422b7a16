"How much is in memory at once, measured in a process of its own"
import subprocess,sys,textwrap
import pytest
from pathlib import Path

pytestmark = pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='needs /proc')

RISE = '''
import resource
from pathlib import Path
def resident(): return 1024*next(int(l.split()[1]) for l in Path('/proc/self/status').read_text().splitlines() if l.startswith('VmRSS'))
def rise(f):
    "Bytes that the process grows by at its largest while `f` runs"
    Path('/proc/self/clear_refs').write_text('5') # the highest so far is the present
    before = resident()
    f()
    return 1024*next(int(l.split()[1]) for l in Path('/proc/self/status').read_text().splitlines() if l.startswith('VmHWM'))-before
'''

def printed(src):
    "The numbers that a script prints"
    out = subprocess.run([sys.executable, '-c', RISE+textwrap.dedent(src)], capture_output=True, text=True)
    assert out.returncode==0, out.stderr
    return [float(o) for o in out.stdout.split()]

def test_labels_are_written_where_they_stay():
    "Once 2.8 times their bytes"
    peak,size = printed('''
        import torch
        from torch import nn
        from edf_nrr.core import Distilled, Normalize
        from edf_nrr.dbr import relabel
        g = torch.Generator().manual_seed(0)
        syn = Distilled(torch.rand(500, 1, 4, 4, generator=g), torch.arange(500), [str(i) for i in range(2000)], Normalize([0.], [1.]))
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2000))
        relabel(syn, net, 'soft', 2)
        print(rise(lambda: globals().update(labels=relabel(syn, net, 'soft', 150, show=False))), labels.nbytes)''')
    assert size==150*500*2000*2 and peak<1.2*size, f'{peak/size:.2f} times the {size/1e6:.0f} MB of the labels'

DATA = '''
        import torch
        from torch import nn
        from edf_nrr.core import Normalize
        from edf_nrr.data import ImageData, Split, fit_normalize
        from edf_nrr.training import Recipe, evaluate, random_real
        g = torch.Generator().manual_seed(0)
        def split(n, side=32): return Split(torch.randint(256, (n, 3, side, side), dtype=torch.uint8, generator=g), torch.arange(n)%2)
'''

def test_test_images_stay_bytes():
    "Once all of them as float32, with copies on the way twelve times their bytes"
    peak,size = printed(DATA+'''
        data,recipe = ImageData(split(4), split(30_000), ['a', 'b'], Normalize([.5]*3, [.25]*3)),Recipe(epochs=1, augment=None)
        def net(k, s, c): return nn.Sequential(nn.Flatten(), nn.Linear(c*s*s, k))
        syn,few = random_real(data, 1),data.take(1, 500)
        evaluate(syn, few, net, 1, recipe)
        print(rise(lambda: evaluate(syn, data, net, 1, recipe)), data.test.nbytes)''')
    assert peak<size, f'{peak/size:.2f} times the {size/1e6:.0f} MB of the test images'

def test_statistics_are_counted():
    "Once two batches in float64, sixteen times their bytes"
    peak,size = printed(DATA+'''
        s = split(1024, 128)
        fit_normalize(s, 64)
        print(rise(lambda: fit_normalize(s)), s.nbytes)''')
    assert peak<size, f'{peak/size:.2f} times the {size/1e6:.0f} MB of a batch'
