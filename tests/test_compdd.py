"ImageNet folders as they lie on disks, class lists that must agree, scores of streamed and interrupted data; formulas are in nbs/06_compdd.ipynb"
import pytest, torch
from PIL import Image
from torch import nn
from torchvision.datasets import ImageFolder
from edf_nrr.basics import rng
from edf_nrr.core import Normalize
from edf_nrr.data import ImageData, Split
from edf_nrr.files import image_folder
from edf_nrr.imagenet import SUBSETS, imagenet_index, imagenet_names, imagenet_subset
from edf_nrr.imagenet import imagenet_wnids, subset_classes, subset_overlaps
from edf_nrr.models import create_model
from edf_nrr.teachers import imagenet_model, in_space, match_classes
from edf_nrr.cam import cam
from edf_nrr.compdd import Complexity, class_features, complexity, easy_hard, similar_groups

wnid,name = imagenet_wnids(),imagenet_names()

def tree(root, ids, call=lambda i: wnid[i], parts=('train', 'val'), n=2):
    "ImageNet in miniature: the red of an image is its class index modulo 256, the green 20 times the rest, and the image's number"
    for part in parts:
        for i in ids:
            d = root/part/call(i)
            d.mkdir(parents=True)
            for j in range(n): Image.new('RGB', (20, 16), (i%256, 20*(i//256)+j, 40*j)).save(d/f'{j}.png')
    return root

def index_of(data): u8 = data.train.raw()[:,:,0,0].long(); return u8[:,0]+256*(u8[:,1]//20)

@pytest.mark.parametrize('subset', SUBSETS)
@pytest.mark.parametrize('call', [lambda i: wnid[i], lambda i: name[i], lambda i: name[i].lower().replace(' ', '_')], ids=['wnid', 'name', 'plain'])
def test_labels_are_the_lists_order_in_any_layout(tmp_path, subset, call):
    ids = [i for i,_,_ in subset_classes(subset)]
    data = imagenet_subset(tree(tmp_path, sorted({*ids, 0, 999}), call), subset, size=8, device='cpu')
    assert torch.equal(index_of(data), torch.tensor(ids)[data.y('train')]) and data.classes==[name[i] for i in ids] and data.name==subset

def test_torchvision_reads_the_same_classes(tmp_path):
    "torchvision sorts by WNID and takes all folders: the images of a class are the same, its number is not"
    tree(tmp_path, SUBSETS['imagewoof'])
    theirs,ours = ImageFolder(tmp_path/'train'),imagenet_subset(tmp_path, 'imagewoof', size=8, device='cpu')
    assert theirs.classes==sorted(wnid[i] for i in SUBSETS['imagewoof']) and len(theirs)==len(ours.train)
    assert {(c, theirs[k][0].getpixel((0, 0))[0]) for k,(_,y) in enumerate(theirs.samples) for c in [theirs.classes[y]]}=={(wnid[imagenet_index(ours.classes[y])], i%256) for i,y in zip(index_of(ours).tolist(), ours.y('train').tolist())}

def test_music_hard_is_nine_classes_as_published():
    assert len(SUBSETS['music_hard'])==10 and [i for i,_,_ in subset_classes('music_hard')]==[594, 420, 579, 402, 776, 486, 401, 546, 558]
    assert len(subset_classes('music_hard_corrected'))==10 and not set(SUBSETS['music_easy'])&set(SUBSETS['music_hard_corrected'])
    assert ('music_hard', 'music_hard_corrected') not in subset_overlaps()

def test_overlaps_are_those_of_the_lists():
    for (a, b),names in subset_overlaps().items(): assert sorted(imagenet_index(o) for o in names)==sorted(set(SUBSETS[a])&set(SUBSETS[b]))
    assert {('imagenette','dogs_hard'), ('imagenette','fish_hard'), ('imagenette','round_hard'), ('imagenette','music_easy'), ('imagewoof','dogs_easy'), ('imagefruit','imageyellow'),
            ('imageyellow','imagemeow'), ('imagesquawk','birds_easy'), ('imagefruit','round_easy'), ('imageyellow','insect_easy')}=={k for k in subset_overlaps() if 'in1k_cifar10' not in k}

def test_all_missing_classes_are_listed(tmp_path):
    ids = SUBSETS['imagenette']
    tree(tmp_path, ids[1:], parts=('train',)); tree(tmp_path, ids[:-2], parts=('val',))
    with pytest.raises(ValueError, match=r'train/ lacks n01440764 \(tench\).*val/ lacks n03445777 \(golf ball\), n03888257 \(parachute\).*named by its WNID'): imagenet_subset(tmp_path, 'imagenette')

def test_unsorted_validation_images(tmp_path):
    tree(tmp_path, SUBSETS['imagenette'], parts=('train',))
    (tmp_path/'val').mkdir(); Image.new('RGB', (8, 8)).save(tmp_path/'val/ILSVRC2012_val_00000001.png')
    with pytest.raises(ValueError, match='not in class folders: torchvision.datasets.ImageNet'): imagenet_subset(tmp_path, 'imagenette')

def test_other_faults_of_a_subset(tmp_path):
    with pytest.raises(ValueError, match="no subset 'imagewof'"): imagenet_subset(tmp_path, 'imagewof')
    with pytest.raises(ValueError, match='given twice'): imagenet_subset(tmp_path, ['tench', 0])
    tree(tmp_path, [0, 1], parts=('train',)); tree(tmp_path, [0, 1], lambda i: name[i], parts=('val',))
    with pytest.raises(ValueError, match='give both the same names'): imagenet_subset(tmp_path, [0, 1], size=8)

def test_two_classes_of_one_plain_name(tmp_path):
    "A folder `cardigan` is the jacket, as it is written; the dog's would be `Cardigan`"
    data = imagenet_subset(tree(tmp_path, [474, 0], lambda i: name[i]), ['cardigan', 'tench'], size=8, device='cpu')
    assert torch.equal(index_of(data), torch.tensor([474, 0])[data.y('train')])
    with pytest.raises(ValueError, match=r'n02113186 \(Cardigan\)'): imagenet_subset(tmp_path, ['Cardigan'])

# ---- networks and class lists

def coloured(n=40, k=4, size=16):
    u8 = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=rng(0, 'test_compdd'))
    return ImageData(Split(u8, [i%k for i in range(n)]), Split(u8[:2*k], [i%k for i in range(2*k)]), ['ant', 'bee', 'cat', 'dog'][:k])

@pytest.fixture
def net():
    net = create_model('convnet_bn_d1_w16', 4, 16).train()
    net.classes = ['ant', 'bee', 'cat', 'dog']
    return net

def test_another_class_order_gives_the_same_scores(net):
    "The same network with its outputs in another order, and told so"
    data,order = coloured(),[2, 0, 3, 1]
    other = create_model('convnet_bn_d1_w16', 4, 16)
    other.load_state_dict(net.state_dict())
    other.classifier.weight.data,other.classifier.bias.data = net.classifier.weight.data[order],net.classifier.bias.data[order]
    other.classes = [net.classes[i] for i in order]
    a,b = [complexity(data, o, of='label') for o in (net, other)]
    assert torch.equal(a.scores, b.scores) and a.about['accuracy']==b.about['accuracy']
    assert not torch.equal(complexity(data, net, of='label').scores, 1-(cam(net.eval(), data.x('train'), 3-data.y('train'), 'gradcam++')>=.5).float().mean((1, 2)))

def test_a_network_that_knows_other_classes(net):
    data = coloured()
    net.classes = ['tench', 'goldfish', 'hammerhead', 'stingray']
    with pytest.raises(ValueError, match="no output for \\['ant', 'bee', 'cat', 'dog'\\]"): complexity(data, net, of='label')
    assert 'accuracy' not in complexity(data, net).about, 'a predicted class needs no list'
    del net.classes
    with pytest.raises(ValueError, match='model.classes'): complexity(data, net, of='label')

def test_two_outputs_of_one_name():
    net = nn.Identity()
    net.classes = ['a', 'b', 'a']
    with pytest.raises(ValueError, match="two outputs of one name: \\['a'\\]"): match_classes(net, ['b'])

def test_images_are_given_in_the_networks_own_space(net):
    data = coloured()
    ref = complexity(data, net).scores
    net.space = data.norm
    other = ImageData(data.train, data.test, data.classes, Normalize([.2, .3, .4], [.5, .6, .7]))
    assert (complexity(other, net).scores-ref).abs().max()<=1/256+1e-6 and (complexity(other, net).scores-ref).abs().mean()<1e-3
    assert in_space(net, data.norm) is net and in_space(net, other.norm) is not net

def test_pretrained_networks_say_what_they_know(monkeypatch):
    "Without the download: torchvision's own loading of weights, given the state of a fresh network"
    import torchvision.models as tv
    fresh = tv.squeezenet1_1()
    monkeypatch.setattr('torchvision.models._api.load_state_dict_from_url', lambda url,*a,**k: fresh.state_dict() if 'squeezenet1_1' in url else None)
    net = imagenet_model('squeezenet1_1')
    assert net.classes==name and not net.training and torch.equal(net.state_dict()['classifier.1.weight'], fresh.state_dict()['classifier.1.weight'])
    assert torch.allclose(net.space.mean, torch.tensor([.485, .456, .406])) and match_classes(net, ['n02102040']).tolist()==[217]

# ---- scores

def test_leaves_the_network_as_it_was(net):
    net.features[1].eval()
    modes,state = [m.training for m in net.modules()],{k: v.clone() for k,v in net.state_dict().items()}
    complexity(coloured(), net); class_features(coloured(), net)
    assert modes==[m.training for m in net.modules()] and all(torch.equal(v, state[k]) for k,v in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())

def test_streamed_is_in_memory(tmp_path, net):
    for i in range(24):
        d = tmp_path/['ant', 'bee', 'cat', 'dog'][i%4]
        d.mkdir(exist_ok=True)
        Image.fromarray(torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, generator=rng(i, 'image')).numpy()).save(d/f'{i}.png')
    a,b = [image_folder(tmp_path, 16, val=None, stream=s, device='cpu') for s in (True, False)]
    assert not a.in_memory('train') and torch.equal(complexity(a, net, batch_size=5).scores, complexity(b, net, batch_size=5).scores)

def test_the_peak_counts_as_object_and_the_order_ascends(net):
    res = complexity(coloured(), net, threshold=1.)
    maps = cam(net.eval(), coloured().x('train'), net(coloured().x('train')).argmax(1), 'gradcam++')
    assert torch.allclose(res.scores, 1-(maps==1).sum((1, 2))/256) and res.scores.max()<1
    res = complexity(coloured(), net)
    by = res.scores[res.order()].tolist()
    assert by==sorted(by) and by[0]<by[-1] and sorted(res.order().tolist())==list(range(40))

@pytest.mark.parametrize('change', [dict(method='gradcam'), dict(of='label'), dict(threshold=.4), dict(split='test')])
def test_another_score_needs_another_folder(tmp_path, net, change):
    complexity(coloured(), net, path=tmp_path)
    with pytest.raises(ValueError, match='another configuration'): complexity(coloured(), net, path=tmp_path, **change)

def test_another_normalisation_needs_another_folder(tmp_path, net):
    "The network does not know its own space, so it is shown what the data's gives"
    data = coloured()
    complexity(data, net, path=tmp_path)
    other = ImageData(data.train, data.test, data.classes, Normalize([.2, .3, .4], [.5, .6, .7]))
    with pytest.raises(ValueError, match='another configuration: data.space'): complexity(other, net, path=tmp_path)

def test_finished_scores_are_not_computed_again(tmp_path, net):
    ref = complexity(coloured(), net, path=tmp_path)
    net.forward = None
    again = complexity(coloured(), net, path=tmp_path)
    assert torch.equal(again.scores, ref.scores) and again.about==ref.about

def test_bad_arguments(net):
    for bad,says in ((dict(of='best'), 'predicted'), (dict(threshold=0), r'\(0,1\]'), (dict(threshold=50), r'\(0,1\]'), (dict(split='val'), "split must be one of .'train', 'test'., got 'val'"), (dict(method='scorecam'), "gradcam.*got 'scorecam'")):
        with pytest.raises(ValueError, match=says): complexity(coloured(), net, **bad)

# ---- subsets of one's own

def scores_of(data, by): return Complexity(torch.tensor([by[c] for c in data.y('train').tolist()]), data.y('train'), data.classes, {})

def test_easiest_and_hardest_of_each_group(net):
    data = coloured()
    sets = easy_hard(data, net, {'all': data.classes}, 2, scores_of(data, [.3, .1, .9, .5]))
    assert {k: v.classes for k,v in sets.items()}=={'all_easy': ['bee', 'ant'], 'all_hard': ['dog', 'cat']}
    assert torch.equal(sets['all_easy'].train.raw()[sets['all_easy'].y('train')==0], data.train.raw()[data.y('train')==1]) and sets['all_hard'].norm is not None

def test_groups_that_cannot_be(net):
    data = coloured()
    for groups,k,says in (({'a': ['ant', 'wolf']}, 2, 'wolf'), (4, 2, 'has 1 classes'), ({'a': data.classes}, 1, '2 or more'), (9, 2, 'choose 1 to 4')):
        with pytest.raises(ValueError, match=says): easy_hard(data, net, groups, k)
    with pytest.raises(ValueError, match='scores are of classes'): easy_hard(data, net, {'a': data.classes}, 2, Complexity(torch.rand(4), torch.arange(4), ['w', 'x', 'y', 'z'], {}))

def test_similar_classes_form_groups():
    "Two pairs of classes with equal colours, and a network that reads the mean colour"
    u8 = torch.zeros(40, 3, 4, 4, dtype=torch.uint8)
    for i in range(40): u8[i,0 if i%4 in (0, 2) else 2] = 200+i%7
    data = ImageData(Split(u8, [i%4 for i in range(40)]), Split(u8[:4], range(4)), ['red', 'blue', 'rose', 'navy'], Normalize([.5]*3, [.2]*3))
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    assert sorted(map(sorted, similar_groups(data, net, 2).values()))==[['blue', 'navy'], ['red', 'rose']]
    with pytest.raises(ValueError, match='no linear layer'): class_features(data, net[:2])

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_on_the_device(net):
    data = coloured()
    ref,res = complexity(data, net, of='label'),complexity(data.to('cuda'), net.cuda(), of='label')
    assert (res.scores-ref.scores).abs().mean()<2/256 and res.scores.device.type=='cpu'
    assert torch.allclose(class_features(data.to('cuda'), net), class_features(data, net.cpu()), atol=1e-3)
