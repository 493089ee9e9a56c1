import "../vmbus/relay.test.ts";
