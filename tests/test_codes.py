"Top-k labels and components: faults and promises"
import math,subprocess,sys
from pathlib import Path
from statistics import NormalDist
import pytest, torch
from edf_nrr.core import Distilled, Normalize
from edf_nrr.models import create_model
from edf_nrr.dbr import Labels, bytes_per_view, mixed_views, relabel, train_from_labels
from edf_nrr.codes import Code, LABEL_PRESETS, fit_code
from test_dbr import a_large_store_is_read_where_it_lies, data, rewrite, stored_labels_hold_in_another_process # noqa: F401, fixtures
from test_dbr import students_of_a_sure_teacher_stay_finite, syn, teacher # noqa: F401, fixtures

both = pytest.mark.parametrize('kind', ['topk', 'components'])

@both
def test_teacher_of_more_outputs(syn, kind):
    with pytest.raises(ValueError, match='12 outputs'): relabel(syn, create_model('convnet_d1_w8', 12, 8, 1), kind, epochs=1)

@both
@pytest.mark.parametrize('k,match', [(0, 'above 0'), (10, 'kind="soft"')])
def test_k_errors(syn, teacher, kind, k, match):
    with pytest.raises(ValueError, match=match): relabel(syn, teacher, kind, epochs=1, k=k)

def test_fewer_epochs_use_the_first_labels(syn, teacher):
    long,short = (relabel(syn, teacher, 'components', epochs=e) for e in (4, 2))
    assert torch.equal(long.d[:2], short.d) and torch.equal(long.code.basis, short.code.basis)

@both
def test_sure_teacher_stays_finite(syn, kind): students_of_a_sure_teacher_stay_finite(syn, kind)

@pytest.mark.parametrize('change', [lambda t: t.update(d=t['d'][:,:,:1].contiguous()), lambda t: t.pop('classes'), lambda t: t.pop('d'),
    lambda t: t['classes'].fill_(10), lambda t: t.update(d=t['d'].int())])
def test_changed_file_of_topk(syn, teacher, tmp_path, change):
    f = tmp_path/'x.safetensors'
    relabel(syn, teacher, 'topk', epochs=2, path=f)
    rewrite(f, change)
    with pytest.raises(ValueError): Labels.load(f)

def test_stored_labels_hold_in_another_process(syn, teacher, tmp_path):
    stored_labels_hold_in_another_process(syn, teacher, tmp_path, 'components', 'codes')

def test_a_file_says_which_module_to_import(syn, teacher, tmp_path):
    f = tmp_path/'l.safetensors'
    relabel(syn, teacher, 'topk', epochs=1, path=f)
    src = f'from edf_nrr.dbr import Labels; Labels.load({str(f)!r})'
    err = subprocess.run([sys.executable, '-c', src], capture_output=True, text=True).stderr
    assert "l.safetensors is not labels" in err and "unknown kind of label 'topk', known are ['hard', 'distances', 'soft']: import edf_nrr.codes" in err

@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='needs /proc')
def test_a_large_store_is_read_where_it_lies(tmp_path): a_large_store_is_read_where_it_lies(tmp_path, 'topk', 'codes')

# ---- components ----
@pytest.mark.parametrize('k', [1, 2, 3, 5, 9])
def test_components_on_disk(syn, teacher, tmp_path, k):
    labels = relabel(syn, teacher, 'components', epochs=3, path=tmp_path/'l.safetensors', k=k)
    back = Labels.load(tmp_path/'l.safetensors')
    assert torch.equal(back.d, labels.d) and back.d.dtype==torch.uint8 and all(torch.equal(a, b) for a,b in zip(back.code, labels.code))
    assert back.nbytes==3*20*k + 2*10*(len(back.code.bits)+1) + len(back.code.bits) and bytes_per_view('components', 10, k)==k
    m = mixed_views(syn, labels.views, 1, range(20))
    a,b = (o.target(1, range(20), m) for o in (labels, back))
    assert torch.equal(a.d, b.d) and a.kind=='soft' and str(k) in back.name

@pytest.mark.parametrize('change', [lambda t: t.pop('basis'), lambda t: t.pop('bits'), lambda t: t['basis'].fill_(torch.nan), lambda t: t['bits'].add_(1),
    lambda t: t.update(basis=t['basis'][1:].contiguous()), lambda t: t.update(basis=t['basis'][:,1:].contiguous()), lambda t: t.update(d=t['d'][:,:,:1].contiguous()),
    lambda t: t.update(d=t['d'].half()), lambda t: t['bits'].copy_(torch.tensor([16, *[0]*(len(t['bits'])-1)]))])
def test_changed_file_of_components(syn, teacher, tmp_path, change):
    f = tmp_path/'x.safetensors'
    relabel(syn, teacher, 'components', epochs=2, path=f)
    rewrite(f, change)
    with pytest.raises(ValueError): Labels.load(f)

def test_only_components_have_a_code(syn, teacher):
    labels = relabel(syn, teacher, 'soft', epochs=1)
    with pytest.raises(ValueError, match='stored without code'): Labels('soft', labels.views, labels.d, None, syn.classes, '', code=Code(torch.zeros(1, 10), torch.zeros(0, dtype=torch.uint8)))

def by_hand(code, z):
    "Bytes and logits of one view, number by number, with Python's own normal distribution"
    g,text,back,mean = NormalDist(),'',code.basis[0].tolist(),z.mean().item()
    for row,n in zip(code.basis[1:].double().tolist(), code.bits.tolist()):
        c = sum((a-mean-b)*r for a,b,r in zip(z.tolist(), code.basis[0].tolist(), row))/sum(r*r for r in row)
        q = min(math.floor(g.cdf(c/3**.5)*2**n), 2**n-1)
        text += f'{q:0{n}b}'[::-1] # lowest bit first
        low,high = (3**.5*g.inv_cdf(o/2**n) if 0<o<2**n else math.copysign(math.inf, o-.5) for o in (q, q+1))
        value = (g.pdf(low)-g.pdf(high))/(g.cdf(high)-g.cdf(low))
        back = [b+value*r for b,r in zip(back, row)]
    return [int(text[i:i+8][::-1], 2) for i in range(0, len(text), 8)],back

@pytest.mark.parametrize('k', [1, 3, 6])
def test_code_by_hand(k):
    g = torch.Generator().manual_seed(k)
    z = torch.randn(300, 7, generator=g, dtype=torch.float64)@torch.randn(7, 7, generator=g, dtype=torch.float64)+3
    code = fit_code(z, k)
    packed = code.encode(z)
    back = code.decode(packed)
    assert packed.shape==(300, k) and int(code.bits.sum())==8*k
    for i in range(0, 300, 11):
        bytes_,logits = by_hand(code, z[i])
        assert packed[i].tolist()==bytes_ and torch.allclose(back[i].double(), torch.tensor(logits).double(), atol=1e-4)

def test_more_bytes_tell_more_and_outliers_are_clipped():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(2000, 12, generator=g)@torch.randn(12, 12, generator=g)
    z = z-z.mean(1, keepdim=True)
    codes = [fit_code(z, k) for k in (1, 2, 4, 8)]
    errors = [(c.decode(c.encode(z))-z).pow(2).mean().item() for c in codes]
    assert all(a>1.5*b for a,b in zip(errors, errors[1:])) and errors[-1]<.01*z.var()
    far = codes[2].decode(codes[2].encode(1e6*z))
    assert far.isfinite().all() and far.abs().max()<10*z.abs().max()

def test_components_without_variance(syn):
    "A teacher that says the same of everything needs no bytes"
    net = create_model('convnet_d1_w8', 10, 8, 1)
    with torch.no_grad(): net.classifier.weight.zero_(); net.classifier.bias.copy_(torch.arange(10.))
    labels = relabel(syn, net, 'components', epochs=2)
    assert labels.d.shape==(2, 20, 0) and len(labels.code.bits)==0
    t = labels.target(0, [3], mixed_views(syn, labels.views, 0, [3]))
    assert torch.allclose(-t.d[0], torch.arange(10.)-4.5, atol=1e-2)
    assert all(p.isfinite().all() for p in train_from_labels(syn, labels, 'convnet_d1_w8').parameters())

@pytest.mark.parametrize('scale', [1e-9, 1e9])
def test_components_of_tiny_and_huge_logits(scale):
    z = scale*torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    code = fit_code(z, 2)
    assert code.decode(code.encode(z)).isfinite().all()

def test_components_of_two_classes():
    syn = Distilled(torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6)%2, ['a', 'b'], Normalize([0.], [1.]))
    net = create_model('convnet_d1_w8', 2, 8, 1)
    labels = relabel(syn, net, 'components', epochs=3, k=1)
    m = mixed_views(syn, labels.views, 0, range(6))
    z = net.eval()(m.x).detach()
    assert labels.code.bits.tolist()==[8] and ((-labels.target(0, range(6), m).d).diff()-z.diff()).abs().max()<.1*z.diff().std()

@pytest.mark.parametrize('name', LABEL_PRESETS)
def test_presets_train(syn, teacher, name):
    labels = relabel(syn, teacher, epochs=1, **LABEL_PRESETS[name])
    assert all(p.isfinite().all() for p in train_from_labels(syn, labels, 'convnet_d1_w8').parameters())
