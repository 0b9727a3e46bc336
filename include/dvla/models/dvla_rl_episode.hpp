// How DVLA-RL runs an episode: supports first, which set the gates, then queries, which replay them, or both in one batch, which
// waits at a gate for nothing but its decision; then rewards and losses.
#pragma once

#include <dvla/autodiff/branch.hpp>
#include <dvla/models/dvla_rl.hpp>

namespace dvla::inline DVLA_ABI {

template <visformer_config Config, class T>
template <class Context, class Input>
class dvla_rl<Config, T>::detail_episode {
 public:
  detail_episode(dvla_rl const& model, Input const& images, episode_semantics<T, Context> const& semantics,
                 std::array<double, 2> const* actions, T const* baselines)
      : model_(model),
        options_(model.options),
        images_(images),
        semantics_(semantics),
        given_(actions),
        baselines_(baselines),
        context_(first_images().context()),
        support_labels_(labels(support_count())),
        query_labels_(labels(query_count())) {
    check();
    supports_at_ = context_.constant(support_labels_);
    queries_at_ = context_.constant(query_labels_);
  }

  [[nodiscard]] auto finish() {
    auto const [support, query] = features();
    auto const class_prototypes = dvla::prototypes(support, images_.way);
    auto const logits = cosine_logits(query, class_prototypes, options_.temperature_class);
    auto const supervised = cross_entropy(logits, queries_at_);
    episode_trace<feature_width, T, Context> out{logits, class_prototypes, support, supervised, supervised,
                                                 accuracy_at(logits, queries_at_)};
    branch aside(context_, in_one_batch && words_are_constant());  // nothing waits for rewards but the report
    figures_of_gate<0>(out);
    figures_of_gate<1>(out);
    if constexpr (Context::records) settle(out, aside);
    return out;
  }

 private:
  static constexpr bool in_one_batch = requires(Input const& in) { in.all; };
  using scalar_variable = variable<T, shape<>, Context>;
  template <std::size_t Width>
  using rows = variable<T, shape<dyn, Width>, Context>;

  using element = typename Context::device_type::template stored<T>;
  template <class S>
  using tokens_of = variable<element, S, Context>;

  /// What a gated layer leaves for the rewards: pooled tokens or, of one batch, the tokens that are to be pooled.
  template <std::size_t Tokens, std::size_t Width>
  struct layer_trace {
    std::optional<rows<Width>> support_in, support_out, query_in, query_out, fused;
    std::optional<tokens_of<shape<dyn, Tokens, Width>>> all_in, all_out;
    std::optional<tokens_of<shape<dyn, dyn, Width>>> all_fused;
    std::optional<variable<T, shape<dyn, 1>, Context>> p, actions;
    bool sampled = false;
  };

  [[nodiscard]] std::vector<std::uint32_t> labels(std::size_t count) const {
    std::vector<std::uint32_t> out(count);
    for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::uint32_t>(i / std::max<std::size_t>(1, count / std::max<std::size_t>(1, images_.way)));
    return out;
  }

  [[nodiscard]] auto const& first_images() const {
    if constexpr (in_one_batch) return images_.all;
    else return images_.support;
  }
  [[nodiscard]] std::size_t support_count() const {
    if constexpr (in_one_batch) return images_.supports;
    else return images_.support.shape()[0];
  }
  [[nodiscard]] std::size_t query_count() const {
    if constexpr (in_one_batch) return images_.all.shape()[0] - images_.supports;
    else return images_.query.shape()[0];
  }

  void check() const {
    std::size_t const way = images_.way;
    expect(way > 0 && support_count() % way == 0 && query_count() % way == 0, "episode: ", support_count(), " supports and ",
           query_count(), " queries cannot be shared evenly by ", way, " classes");
    if constexpr (in_one_batch)
      expect(options_.semantics == semantics_scope::episode,
             "episode: supports and queries pass in one batch only with semantics of the whole episode; give them apart, as episode_images");
    expect(semantics_.global.shape()[0] == way && semantics_.local.shape()[0] % way == 0, "episode: semantics of ", way,
           " classes are needed, but there are ", semantics_.global.shape()[0], " global and ", semantics_.local.shape()[0],
           " local vectors; give one global vector a class and the same number of local ones for each");
    std::size_t const width = model_.gated.stage2.sem_proj.weight.shape()[1];
    expect(semantics_.local.shape()[1] == width && semantics_.global.shape()[1] == width, "episode: semantic vectors have ",
           semantics_.local.shape()[1], " elements, but the model was made for ", width);
  }

  /// The pooled features of supports and queries.
  [[nodiscard]] auto features() {
    if constexpr (in_one_batch) {
      auto const guard = context_.normalise_apart(support_count());
      auto const all = encode(images_.all, [&](auto layer, auto const& z, auto const& block) { return joint_layer(layer, z, block); });
      return std::pair(slice<0>(all, 0, support_count()), slice<0>(all, support_count(), query_count()));
    } else {
      auto const support = encode(images_.support, [&](auto layer, auto const& z, auto const& block) { return support_layer(layer, z, block); });
      auto const query = encode(images_.query, [&](auto layer, auto const& z, auto const& block) { return query_layer(layer, z, block); });
      return std::pair(support, query);
    }
  }

  template <class Images, class Layer>
  [[nodiscard]] auto encode(Images const& images, Layer const& layer) const {
    auto const& net = model_.backbone;
    auto x = entered(images);
    x = layer(std::integral_constant<std::size_t, 0>{}, x, net.stage2.back());
    auto y = net.embed3(x);
    y = layer(std::integral_constant<std::size_t, 1>{}, y, net.stage3.front());
    for (std::size_t i = 1; i < net.stage3.size(); ++i) y = net.stage3[i](y);
    return net.pool(y);
  }

  template <class X>
  [[nodiscard]] auto entered(X const& x) const {
    if constexpr (X::rank == 4) return model_.enter(x);
    else return x;
  }

  template <std::size_t Layer>
  [[nodiscard]] auto& trace() {
    if constexpr (Layer == 0) return first_;
    else return second_;
  }

  template <std::size_t Layer, class Z, class Block>
  [[nodiscard]] Z support_layer(std::integral_constant<std::size_t, Layer>, Z const& z, Block const& block) {
    auto& t = trace<Layer>();
    auto const tokens = model_.gated.template at<Layer>().tokens(semantics_.local, semantics_.global, levels[Layer]);
    t.support_in = mean<1>(z);
    auto const gates = spread(decide<Layer>(*t.support_in, mean<0>(tokens)), z.shape()[0]);
    auto const own = options_.semantics == semantics_scope::own_class;
    return own ? gated_block<Layer>(z, own_tokens(tokens), gates, block, true) : gated_block<Layer>(z, tokens, gates, block, true);
  }

  template <std::size_t Layer, class Z, class Block>
  [[nodiscard]] Z query_layer(std::integral_constant<std::size_t, Layer>, Z const& z, Block const& block) {
    auto& t = trace<Layer>();
    t.query_in = mean<1>(z);
    if (options_.semantics == semantics_scope::own_class) {
      Z const plain = block(z);
      t.query_out = mean<1>(plain);
      return plain;
    }
    auto const tokens = model_.gated.template at<Layer>().tokens(semantics_.local, semantics_.global, levels[Layer]);
    auto const replayed = reshape(mean<0>(*t.actions), shape<1, 1>{});
    return gated_block<Layer>(z, tokens, spread(replayed, z.shape()[0]), block, false);
  }

  /// The layer for supports and queries at once: gates of the supports, which queries replay.
  template <std::size_t Layer, class Z, class Block>
  [[nodiscard]] Z joint_layer(std::integral_constant<std::size_t, Layer>, Z const& z, Block const& block) {
    auto const& layer = model_.gated.template at<Layer>();
    auto& t = trace<Layer>();
    t.support_in = mean<1>(slice<0>(stop_gradient(z), 0, support_count()));
    // Phrases and the decision are many small operations; the image's keys and values are computed meanwhile.
    branch reading(context_, words_are_constant());
    auto const tokens = layer.tokens(of_context(reading, semantics_.local), of_context(reading, semantics_.global), levels[Layer]);
    auto const words = layer.read(convert<typename Z::value_type>(tokens));
    reading.close();
    branch deciding(context_, reading.beside());
    auto const decided = decide<Layer>(deciding.take(*t.support_in), mean<0>(tokens));
    deciding.close();
    auto const image = layer.look(z);
    auto const guided = layer.attend(reading.result(words.queries), image);
    auto const fused = layer.mix(guided, reading.result(words.text_guided), gates_of_all(deciding.result(decided)));
    Z const kept = layer.run_block(layer.enrich(z, fused), fused, block, Config.side(Layer + 1), options_.pad);
    if constexpr (Context::records) t.all_in = stop_gradient(z), t.all_out = stop_gradient(kept), t.all_fused = stop_gradient(fused);
    return kept;
  }

  [[nodiscard]] bool words_are_constant() const { return !semantics_.local.wants_gradient() && !semantics_.global.wants_gradient(); }

  /// x where a branch computes, with its gradient where that is the context it left.
  template <class X>
  [[nodiscard]] static X of_context(branch<Context> const& aside, X const& x) {
    return aside.beside() ? aside.take(x) : x;
  }

  /// The supports' gates, and of each query what it replays.
  [[nodiscard]] auto gates_of_all(variable<T, shape<dyn, 1>, Context> const& decided) const {
    if (decided.shape()[0] == 1) return spread(decided, support_count() + query_count());
    auto const replayed = reshape(mean<0>(decided), shape<dyn, 1>(1));
    return concatenate<0>(spread(decided, support_count()), spread(replayed, query_count()));
  }

  template <std::size_t Layer, class Z, class Tokens, class Gates, class Block>
  [[nodiscard]] Z gated_block(Z const& z, Tokens const& tokens, Gates const& gates, Block const& block, bool support) {
    auto const& layer = model_.gated.template at<Layer>();
    auto& t = trace<Layer>();
    auto const fused = layer.fuse(z, tokens, gates);
    Z const kept = layer.run_block(layer.enrich(z, fused), fused, block, Config.side(Layer + 1), options_.pad);
    (support ? t.support_out : t.query_out) = mean<1>(kept);
    if (support) t.fused = mean<1>(fused);
    return kept;
  }

  /// The gate's rows, (1, 1) for the episode or (S, 1) for its supports; remembers policy and actions.
  template <std::size_t Layer, class Pooled, class Token>
  [[nodiscard]] variable<T, shape<dyn, 1>, Context> decide(Pooled const& pooled, Token const& token) {
    auto& t = trace<Layer>();
    constexpr std::size_t width = Pooled::shape_type::statics[1];
    auto const row = [&](auto const& v) { return reshape(v, shape<dyn, width>(1)); };
    // The policy learns through its score function only: its state carries no gradient back.
    rows<width> const image = stop_gradient(options_.scope == gate_scope::image ? pooled : row(mean<0>(pooled)));
    auto const text = stop_gradient(reshape(token, shape<1, width>{}));
    auto const spread_text = evaluate(0.0 * image + text);
    auto const cosine = sum(unit(image) * unit(spread_text));
    auto const state = concatenate<1>(image, spread_text, cosine);
    t.p = model_.policy.template at<Layer>()(state, options_.policy);
    t.sampled = options_.gate == gate_kind::policy && context_.training() && given_ == nullptr;
    if (given_ != nullptr || options_.gate == gate_kind::fixed) {
      double const value = given_ != nullptr ? (*given_)[Layer] : options_.fixed_gate;
      t.actions = evaluate(0.0 * stop_gradient(*t.p) + value);
    } else if (options_.gate == gate_kind::mlp) {
      t.actions = *t.p;
    } else {
      t.actions = t.sampled ? rl::sample_actions(stop_gradient(*t.p), options_.policy) : stop_gradient(*t.p);
    }
    return *t.actions;
  }

  /// Gate rows as (images, 1, 1): the one of the episode for every image, or each its own.
  template <class Rows>
  [[nodiscard]] auto spread(Rows const& gate_rows, std::size_t images) const {
    variable<T, shape<dyn, 1, 1>, Context> out = reshape(evaluate(gate_rows * 1.0), shape<dyn, 1, 1>(gate_rows.shape()[0]));
    if (gate_rows.shape()[0] == images) return out;
    auto ones = make_variable<T>(context_, shape<dyn, 1, 1>(images));
    fill(context_.device(), images, ones.data_pointer(), T(1));
    out = evaluate(ones * reshape(out, shape<1, 1, 1>{}));
    return out;
  }

  /// For every support the tokens of its own class: (S, tokens of a class, Dim).
  template <class Tokens>
  [[nodiscard]] auto own_tokens(Tokens const& tokens) {
    std::size_t const way = images_.way, supports = support_labels_.size(), phrases = semantics_.local.shape()[0] / way;
    std::vector<std::uint32_t> positions;
    for (auto const label : support_labels_) {
      for (std::size_t i = 0; i < phrases; ++i) positions.push_back(static_cast<std::uint32_t>(label * phrases + i));
      positions.push_back(static_cast<std::uint32_t>(way * phrases + label));
    }
    constexpr std::size_t width = Tokens::shape_type::statics[1];
    return reshape(gather(tokens, context_.constant(positions), positions.size()), shape<dyn, dyn, width>(supports, phrases + 1));
  }

  template <class Support, class Query>
  [[nodiscard]] scalar_variable pooled_accuracy(Support const& support, Query const& query) const {
    return accuracy_at(cosine_logits(stop_gradient(query), dvla::prototypes(stop_gradient(support), images_.way), 1), queries_at_);
  }

  template <std::size_t Layer, class Output>
  void figures_of_gate(Output& out) {
    out.gates.push_back({mean_of(*trace<Layer>().p), mean_of(*trace<Layer>().actions)});
  }

  /// Rewards, the policy's loss and the calibration of U.
  template <class Output>
  void settle(Output& out, branch<Context>& aside) {
    if constexpr (in_one_batch) {
      pool(aside.take(*first_.all_in), first_.support_in, first_.query_in);
      pool_results(first_, aside);
      pool_results(second_, aside);
    }
    scalar_variable const before = pooled_accuracy(*first_.support_in, *first_.query_in);
    settle_layer<0>(out, aside, before);
    settle_layer<1>(out, aside, *out.gates[0].accuracy);
    out.loss = aside.sum(out.supervised, *beside_loss_);
  }

  /// Pooled tokens of supports and of queries, from those of all.
  template <class Z, class Pooled>
  void pool(Z const& tokens, Pooled& support, Pooled& query) const {
    auto const all = mean<1>(tokens);
    support = slice<0>(all, 0, support_count());
    query = slice<0>(all, support_count(), query_count());
  }
  template <class Trace>
  void pool_results(Trace& t, branch<Context> const& aside) const {
    pool(aside.take(*t.all_out), t.support_out, t.query_out);
    t.fused = mean<1>(slice<0>(aside.take(*t.all_fused), 0, support_count()));
  }

  template <std::size_t Layer, class Output>
  void settle_layer(Output& out, branch<Context>& aside, scalar_variable const& accuracy_before) {
    auto& t = trace<Layer>();
    auto& figures = out.gates[Layer];
    auto const calibrated = model_.align.template at<Layer>()(stop_gradient(*t.fused));
    auto const logits = cosine_logits(calibrated, unit(of_context(aside, semantics_.global)), options_.temperature_align);
    auto const align = cross_entropy(logits, supports_at_);
    figures.similarity = evaluate(mean_at(stop_gradient(logits), supports_at_) * options_.temperature_align);
    figures.accuracy = pooled_accuracy(*t.support_out, *t.query_out);
    figures.reward = evaluate(options_.lambda_similarity * *figures.similarity +
                              options_.lambda_improvement * (*figures.accuracy - accuracy_before));
    scalar_variable const half = evaluate(0.5 * stop_gradient(align));
    out.align = out.align ? evaluate(*out.align + half) : half;
    beside_loss_ = beside_loss_ ? evaluate(*beside_loss_ + 0.5 * align) : evaluate(0.5 * align);
    if (options_.gate != gate_kind::policy) return;
    auto const evaluation = rl::evaluate_policy(stop_gradient(*t.p), *t.actions, options_.policy);
    figures.log_density = evaluation.log_density;
    figures.entropy = evaluation.entropy;
    auto const loss = rl::reinforce_loss(*t.p, *t.actions, advantage<Layer>(*figures.reward), options_.tau_entropy, options_.policy);
    out.rl = out.rl ? evaluate(*out.rl + stop_gradient(loss)) : stop_gradient(loss);
    beside_loss_ = evaluate(*beside_loss_ + options_.lambda_rl * loss);
  }

  /// Reward less baseline; 0 before the baseline has started.
  template <std::size_t Layer>
  [[nodiscard]] scalar_variable advantage(scalar_variable const& reward) const {
    if (baselines_ == nullptr) {
      auto const& baseline = model_.baselines[Layer];
      return baseline.started() ? evaluate(reward - baseline.value()) : evaluate(0.0 * reward);
    }
    view<T const, shape<>, contiguous, typename Context::device_type> const value(baselines_ + 2 * Layer, {}),
        started(baselines_ + 2 * Layer + 1, {});
    return evaluate(started * (reward - value));
  }

  template <class X>
  [[nodiscard]] scalar_variable mean_of(X const& x) const {
    return reshape(mean<0>(reshape(stop_gradient(x), shape<dyn>(x.size()))), shape<>{});
  }

  dvla_rl const& model_;
  dvla_rl_options const& options_;
  Input const& images_;
  episode_semantics<T, Context> const& semantics_;
  std::array<double, 2> const* given_;
  T const* baselines_;
  Context& context_;
  std::vector<std::uint32_t> support_labels_, query_labels_;
  std::uint32_t const* supports_at_ = nullptr;  // the same on the device
  std::uint32_t const* queries_at_ = nullptr;
  std::optional<scalar_variable> beside_loss_;  // what is not supervised
  layer_trace<Config.tokens(1), c2> first_;
  layer_trace<Config.tokens(2), c3> second_;
};

}  // namespace dvla::inline DVLA_ABI
