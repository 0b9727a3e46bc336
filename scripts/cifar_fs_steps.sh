# Steps of the CIFAR-FS recipes, for scripts that source it. They use: data (the folder), out (where results go), dvla (the tool).
common=(--data "$data" --in-memory --preprocess cifar)

# pretrain_backbone FOLDER: the small Visformer on the 64 base classes, 7 minutes on two cores.
pretrain_backbone() {
  "$dvla" pretrain "${common[@]}" --model visformer-small-32 --batch 128 --epochs 12 --warmup 0.6 --lr 2e-3 --weight-decay 0.2 \
    --label-smoothing 0 --mixup 0 --cutmix 0 --drop-path 0 --augment pretrain --smallest-area 0.7 --validate-every 4 --out "$1" "${@:2}"
}

# tune BACKBONE METHOD SHOT EPOCHS FOLDER WORDS...: tunes a learner on 120 episodes an epoch; WORDS: its semantics and what else it takes.
tune() {
  "$dvla" meta-train "${common[@]}" --method "$2" "${@:6}" --checkpoint "$1" --way 5 --shot "$3" --epochs "$4" --episodes-per-epoch 120 \
    --validation-episodes 300 --lr 5e-4 --backbone-lr 5e-5 --drop-path 0 --augment episodic-cifar --out "$5"
}

# measure CHECKPOINT SHOT JSON: the 2,000 fixed novel episodes.
measure() { "$dvla" evaluate "${common[@]}" --checkpoint "$1" --shot "$2" --json "$3"; }
