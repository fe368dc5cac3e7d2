"""The exact names that an estimator's file may contain. Standard library only: nothing is imported here.

They are classes whose instances hold attributes only, and values that are stored and never called. To rebuild
an object such as an array, a function of ``pickle_values`` is called instead of the function that the file
names.

Two kinds are left out on purpose: classes that take functions or file names from their state
(``functools.partial``, ``joblib.Memory``), and classes that no converter supports. ``native_state`` checks
the state of listed classes that could call functions: ``FunctionTransformer`` may call numpy's plain
functions only, and a vectorizer may read text only.
"""

# One module per line, then its classes.
_CLASSES = """
sklearn.pipeline Pipeline FeatureUnion
sklearn.frozen._frozen FrozenEstimator
sklearn.compose._column_transformer ColumnTransformer make_column_selector
sklearn.compose._target TransformedTargetRegressor
sklearn.preprocessing._function_transformer FunctionTransformer
sklearn.preprocessing._target_encoder TargetEncoder
sklearn.feature_extraction.text CountVectorizer TfidfTransformer TfidfVectorizer
sklearn.feature_selection._sequential SequentialFeatureSelector
sklearn.semi_supervised._label_propagation LabelPropagation LabelSpreading
sklearn.semi_supervised._self_training SelfTrainingClassifier
sklearn.preprocessing._data Binarizer KernelCenterer MaxAbsScaler MinMaxScaler Normalizer PowerTransformer
sklearn.preprocessing._data QuantileTransformer RobustScaler StandardScaler
sklearn.preprocessing._discretization KBinsDiscretizer
sklearn.preprocessing._encoders OneHotEncoder OrdinalEncoder
sklearn.preprocessing._label LabelBinarizer LabelEncoder MultiLabelBinarizer
sklearn.preprocessing._polynomial PolynomialFeatures SplineTransformer
scipy.interpolate._bsplines BSpline
sklearn.impute._base SimpleImputer MissingIndicator
sklearn.impute._knn KNNImputer
sklearn.feature_selection._from_model SelectFromModel
sklearn.feature_selection._rfe RFE RFECV
sklearn.feature_selection._univariate_selection GenericUnivariateSelect SelectFdr SelectFpr SelectFwe
sklearn.feature_selection._univariate_selection SelectKBest SelectPercentile
sklearn.feature_selection._variance_threshold VarianceThreshold
sklearn.decomposition._incremental_pca IncrementalPCA
sklearn.decomposition._kernel_pca KernelPCA
sklearn.decomposition._pca PCA
sklearn.decomposition._truncated_svd TruncatedSVD
sklearn.decomposition._factor_analysis FactorAnalysis
sklearn.decomposition._fastica FastICA
sklearn.cross_decomposition._pls CCA PLSCanonical PLSRegression PLSSVD
sklearn.random_projection GaussianRandomProjection
sklearn.kernel_approximation AdditiveChi2Sampler Nystroem SkewedChi2Sampler
sklearn.kernel_ridge KernelRidge
sklearn.calibration CalibratedClassifierCV _CalibratedClassifier _SigmoidCalibration _TemperatureScaling
sklearn.isotonic IsotonicRegression
sklearn.cluster._affinity_propagation AffinityPropagation
sklearn.cluster._agglomerative FeatureAgglomeration
sklearn.cluster._kmeans KMeans MiniBatchKMeans
sklearn.cluster._mean_shift MeanShift
sklearn.covariance._elliptic_envelope EllipticEnvelope
sklearn.discriminant_analysis LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis
sklearn.dummy DummyClassifier DummyRegressor
sklearn.ensemble._bagging BaggingClassifier BaggingRegressor
sklearn.ensemble._forest ExtraTreesClassifier ExtraTreesRegressor RandomForestClassifier RandomForestRegressor
sklearn.ensemble._forest RandomTreesEmbedding
sklearn.ensemble._gb GradientBoostingClassifier GradientBoostingRegressor
sklearn.ensemble._hist_gradient_boosting.binning _BinMapper
sklearn.ensemble._hist_gradient_boosting.gradient_boosting HistGradientBoostingClassifier
sklearn.ensemble._hist_gradient_boosting.gradient_boosting HistGradientBoostingRegressor
sklearn.ensemble._hist_gradient_boosting.predictor TreePredictor
sklearn.ensemble._iforest IsolationForest
sklearn.ensemble._stacking StackingClassifier StackingRegressor
sklearn.ensemble._voting VotingClassifier VotingRegressor
sklearn.ensemble._weight_boosting AdaBoostClassifier AdaBoostRegressor
sklearn.gaussian_process._gpc GaussianProcessClassifier _BinaryGaussianProcessClassifierLaplace
sklearn.gaussian_process._gpr GaussianProcessRegressor
sklearn.gaussian_process.kernels ConstantKernel DotProduct ExpSineSquared Exponentiation Matern Product RBF
sklearn.gaussian_process.kernels CompoundKernel PairwiseKernel RationalQuadratic Sum WhiteKernel
sklearn.linear_model._base LinearRegression
sklearn.linear_model._bayes ARDRegression BayesianRidge
sklearn.linear_model._coordinate_descent ElasticNet ElasticNetCV Lasso LassoCV MultiTaskElasticNet
sklearn.linear_model._coordinate_descent MultiTaskElasticNetCV MultiTaskLasso MultiTaskLassoCV
sklearn.linear_model._glm.glm GammaRegressor PoissonRegressor TweedieRegressor
sklearn.linear_model._huber HuberRegressor
sklearn.linear_model._least_angle Lars LarsCV LassoLars LassoLarsCV LassoLarsIC
sklearn.linear_model._logistic LogisticRegression LogisticRegressionCV
sklearn.linear_model._omp OrthogonalMatchingPursuit OrthogonalMatchingPursuitCV
sklearn.linear_model._passive_aggressive PassiveAggressiveClassifier PassiveAggressiveRegressor
sklearn.linear_model._perceptron Perceptron
sklearn.linear_model._quantile QuantileRegressor
sklearn.linear_model._ransac RANSACRegressor
sklearn.linear_model._ridge Ridge RidgeCV RidgeClassifier RidgeClassifierCV
sklearn.linear_model._stochastic_gradient SGDClassifier SGDOneClassSVM SGDRegressor
sklearn.linear_model._theil_sen TheilSenRegressor
sklearn.mixture._bayesian_mixture BayesianGaussianMixture
sklearn.mixture._gaussian_mixture GaussianMixture
sklearn.metrics._scorer _PassthroughScorer
sklearn.model_selection._split KFold StratifiedKFold
sklearn.model_selection._classification_threshold FixedThresholdClassifier
sklearn.model_selection._search GridSearchCV RandomizedSearchCV
sklearn.model_selection._search_successive_halving HalvingGridSearchCV HalvingRandomSearchCV
sklearn.multiclass OneVsOneClassifier OneVsRestClassifier _ConstantPredictor
sklearn.multioutput ClassifierChain MultiOutputClassifier MultiOutputRegressor RegressorChain
sklearn.naive_bayes BernoulliNB CategoricalNB ComplementNB GaussianNB MultinomialNB
sklearn.neighbors._classification KNeighborsClassifier RadiusNeighborsClassifier
sklearn.neighbors._graph KNeighborsTransformer
sklearn.neighbors._lof LocalOutlierFactor
sklearn.neighbors._nca NeighborhoodComponentsAnalysis
sklearn.neighbors._nearest_centroid NearestCentroid
sklearn.neighbors._regression KNeighborsRegressor RadiusNeighborsRegressor
sklearn.neighbors._unsupervised NearestNeighbors
sklearn.neural_network._multilayer_perceptron MLPClassifier MLPRegressor
sklearn.neural_network._rbm BernoulliRBM
sklearn.neural_network._stochastic_optimizers AdamOptimizer SGDOptimizer
sklearn.svm._classes LinearSVC LinearSVR NuSVC NuSVR OneClassSVM SVC SVR
sklearn.tree._classes DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor
sklearn.utils._bunch Bunch
sklearn._loss.link HalfLogitLink IdentityLink Interval LogLink LogitLink MultinomialLogit
sklearn._loss.loss AbsoluteError ExponentialLoss HalfBinomialLoss HalfGammaLoss HalfMultinomialLoss
sklearn._loss.loss HalfPoissonLoss HalfSquaredError HalfTweedieLoss HalfTweedieLossIdentity HuberLoss
sklearn._loss.loss PinballLoss
xgboost.core Booster
xgboost.sklearn XGBClassifier XGBRegressor XGBRFClassifier XGBRFRegressor XGBModel XGBRanker
lightgbm.basic Booster
lightgbm.sklearn LGBMClassifier LGBMRegressor LGBMModel LGBMRanker
"""

# Cython classes built from numbers only: the file may pass nothing else to their constructor.
_NUMERIC = """
sklearn._loss._loss CyAbsoluteError CyExponentialLoss CyHalfBinomialLoss CyHalfGammaLoss CyHalfMultinomialLoss
sklearn._loss._loss CyHalfPoissonLoss CyHalfSquaredError CyHalfTweedieLoss CyHalfTweedieLossIdentity
sklearn._loss._loss CyHuberLoss CyPinballLoss
sklearn.linear_model._sgd_fast EpsilonInsensitive Hinge ModifiedHuber SquaredEpsilonInsensitive SquaredHinge
"""

# Stored as an attribute: a dtype to convert to, or a score that was used for fitting.
_VALUES = """
numpy log1p expm1 log log2 log10 exp exp2 sqrt square absolute negative reciprocal sin cos tanh
numpy bool bool_ str_ float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 ndarray
numpy mean number integer floating object_
scipy._lib.array_api_compat.numpy._aliases asarray
builtins bool float int str object
sklearn.feature_selection._univariate_selection chi2 f_classif f_regression r_regression
sklearn.feature_selection._mutual_info mutual_info_classif mutual_info_regression
"""

# Classes that no package can hold, and their replacements.
_INSTEAD = {
    "HashingVectorizer": "it stores no terms, and its rows of hashes are too wide for a tensor. Fit a "
    "TfidfVectorizer or a CountVectorizer, with max_features if there are many terms.",
    "FeatureHasher": "its inputs are dictionaries or lists of texts, which a tensor cannot hold. Fit a "
    "pipeline with a ColumnTransformer and a OneHotEncoder on a data frame.",
    "DictVectorizer": "its inputs are dictionaries, which a tensor cannot hold. Fit a pipeline with a "
    "ColumnTransformer and a OneHotEncoder on a data frame.",
}

# numpy's functions of one number: calling them has no other effect.
FUNCTIONS = frozenset(
    name for line in _VALUES.splitlines() if line.startswith("numpy log1p") for name in line.split()[1:]
)

# Renamed modules; a pickle of protocol 2 has ``copy_reg`` and ``__builtin__`` in every Python version.
_RENAMED = {
    "copy_reg": "copyreg",
    "__builtin__": "builtins",
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
}

Name = tuple[str, str]


def why_refused(name: str, advice: str) -> str:
    """Return the end of a refusal's message: the reason or a replacement, and advice."""
    module, _, found = name.partition(" ")[0].rpartition(".")
    if module.partition(".")[0] == "pandas":
        return (
            "an estimator may hold the names of columns, and no other data of pandas. Pass plain values when "
            "you fit it, such as list(frame.columns)."
        )
    return _INSTEAD.get(found, f"loading it could run code. {advice}")


def _table(text: str) -> frozenset[Name]:
    return frozenset(
        (module, name) for module, *names in map(str.split, text.strip().splitlines()) for name in names
    )


CLASSES = _table(_CLASSES)
NUMERIC = _table(_NUMERIC)
VALUES = _table(_VALUES)


def canonical(module: str, name: str) -> Name:
    """Return today's name of an object for its name in any version; an unknown name is returned unchanged."""
    return _RENAMED.get(module, module), name
