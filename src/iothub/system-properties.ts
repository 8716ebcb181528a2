// Azure IoT Hub's system properties of a device-to-cloud message: one table of their names everywhere they occur.

import type { SystemProperties } from '../core/message.ts';

export interface SystemPropertyRow {
  readonly field: keyof SystemProperties;
  /** Name on AMQP, in routing and in the built-in events (contract/service-07, device-semantics). */
  readonly name: string;
  /** Key in the property bag of an MQTT topic (contract/device-mqtt.md, 4). */
  readonly topicKey: string;
  /** Has a place of its own among the properties of an AMQP message (AMQP 1.0, 3.2.4). */
  readonly isAmqpProperty?: true;
}

export const SYSTEM_PROPERTIES: readonly SystemPropertyRow[] = [
  { field: 'messageId', name: 'message-id', topicKey: '$.mid', isAmqpProperty: true },
  { field: 'correlationId', name: 'correlation-id', topicKey: '$.cid', isAmqpProperty: true },
  { field: 'userId', name: 'user-id', topicKey: '$.uid', isAmqpProperty: true },
  { field: 'to', name: 'to', topicKey: '$.to', isAmqpProperty: true },
  { field: 'absoluteExpiryTime', name: 'absolute-expiry-time', topicKey: '$.exp', isAmqpProperty: true },
  { field: 'contentType', name: 'content-type', topicKey: '$.ct', isAmqpProperty: true },
  { field: 'contentEncoding', name: 'content-encoding', topicKey: '$.ce', isAmqpProperty: true },
  { field: 'creationTimeUtc', name: 'iothub-creation-time-utc', topicKey: '$.ctime' },
  { field: 'messageSchema', name: 'iothub-message-schema', topicKey: '$.schema' },
  { field: 'componentName', name: 'dt-subject', topicKey: '$.sub' },
  { field: 'diagnosticId', name: 'Diagnostic-Id', topicKey: '$.diagid' },
  { field: 'correlationContext', name: 'Correlation-Context', topicKey: '$.diagctx' },
];
