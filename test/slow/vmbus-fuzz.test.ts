import "../vmbus/fuzz.test.ts";
