import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.models import SimpleMLP
from avalanche.training import Naive
from sklearn.datasets import load_digits

from src_plugin import SRCPlugin

digits = load_digits()
images, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
train, test = (torch.utils.data.TensorDataset(images[s], labels[s]) for s in (slice(1347), slice(1347, None)))
train.targets, test.targets = labels[:1347].tolist(), labels[1347:].tolist()
for plugins in ([], [SRCPlugin()]):
    torch.manual_seed(0)
    model = SimpleMLP(num_classes=10, input_size=64)
    adam = torch.optim.Adam(model.parameters(), lr=0.001)
    strategy = Naive(model=model, optimizer=adam, train_mb_size=16, train_epochs=5, plugins=plugins, evaluator=None)
    strategy.train(nc_benchmark(train, test, n_experiences=5, task_labels=False, seed=0).train_stream)
    accuracy = (model.eval()(images[1347:]).argmax(1) == labels[1347:]).float().mean()
    print(f"{accuracy:.1%} of ten digits, learnt two at a time", *(src.summary() for src in plugins), sep="; ")
