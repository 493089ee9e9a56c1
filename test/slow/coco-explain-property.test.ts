import "../coco/explain-property.test.ts";
