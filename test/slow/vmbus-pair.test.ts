import "../vmbus/pair.test.ts";
