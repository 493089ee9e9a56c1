/** The engine with the ring loops of the bench beside it: build target "ring-bench". */
export * from "../index";
export { bareCopies, batches, bursts, consume, pingPong, produce } from "./ring";
