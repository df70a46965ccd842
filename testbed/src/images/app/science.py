"""A small analysis with large packages: a spectrum is made, fitted, classified and drawn."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot
import numpy
import pandas
import scipy.optimize
import scipy.stats
import sklearn.ensemble
import sklearn.linear_model
import sklearn.model_selection

print("ready", flush=True)

random = numpy.random.default_rng(1)
frame = pandas.DataFrame({"x": random.normal(0, 1, 2000), "y": random.normal(1, 2, 2000)})
frame["kind"] = (frame["x"] + frame["y"] > 1).astype(int)
counts, edges = numpy.histogram(frame["x"], bins=40)


def peak(x, height, mean, width):
    return height * numpy.exp(-0.5 * ((x - mean) / width) ** 2)


(height, mean, width), _ = scipy.optimize.curve_fit(peak, (edges[1:] + edges[:-1]) / 2, counts, p0=(100, 0, 1))
train, test = sklearn.model_selection.train_test_split(frame, random_state=1)
model = sklearn.linear_model.LogisticRegression().fit(train[["x", "y"]], train["kind"])
score = model.score(test[["x", "y"]], test["kind"])
figure, axes = matplotlib.pyplot.subplots()
axes.stairs(counts, edges)
figure.savefig("/tmp/spectrum.png")
assert 0.9 < abs(width) < 1.1 and score > 0.9, (width, score)
print(f"result {width:.6f} {score:.6f} {scipy.stats.norm.cdf(mean):.6f}")
