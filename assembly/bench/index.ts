/** Loops for bench/: compiled together with the engine into the bench builds, never into a release binary. */
export { copyRun } from "./copy";
export { mapDrain, mapRun, movesRun } from "./map";
export { bareCopies, batches, bursts, consume, pingPong, produce } from "./ring";
export { slotsFail, slotsFragment, slotsOddPairs, slotsPrime, slotsRun } from "./slots";
export { hashBytes } from "./state";
