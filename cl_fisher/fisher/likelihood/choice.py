"""The likelihoods that have a name."""

from collections.abc import Mapping

from cl_fisher.fisher.likelihood.bernoulli import Bernoulli
from cl_fisher.fisher.likelihood.categorical import Categorical
from cl_fisher.fisher.likelihood.gaussian import Gaussian
from cl_fisher.fisher.likelihood.likelihood import Likelihood

LIKELIHOODS: Mapping[str, type[Likelihood]] = {"categorical": Categorical, "bernoulli": Bernoulli, "gaussian": Gaussian}
