// The core on the CPU: tensors, expressions, autodiff, layers, optimizers.
#pragma once

#include <dvla/autodiff/attention.hpp>
#include <dvla/autodiff/branch.hpp>
#include <dvla/autodiff/convolution.hpp>
#include <dvla/autodiff/evaluate.hpp>
#include <dvla/autodiff/folded_norm.hpp>
#include <dvla/autodiff/loss.hpp>
#include <dvla/autodiff/matmul.hpp>
#include <dvla/autodiff/matmul_epilogue.hpp>
#include <dvla/autodiff/normalization.hpp>
#include <dvla/autodiff/rearrange.hpp>
#include <dvla/autodiff/reduction.hpp>
#include <dvla/core/arena.hpp>
#include <dvla/core/tensor.hpp>
#include <dvla/expr/functions.hpp>
#include <dvla/nn/drop_path.hpp>
#include <dvla/nn/layers.hpp>
#include <dvla/nn/optimizer.hpp>
#include <dvla/nn/schedule.hpp>
