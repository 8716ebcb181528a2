// Azure IoT Hub's system properties of a device-to-cloud message: one table of their names everywhere they occur.

import type { SystemProperties } from '../core/message.ts';

export interface SystemPropertyRow {
  readonly field: keyof SystemProperties;
  /** Name on AMQP, in routing and in the built-in events (contract/service-07, device-semantics). */
  readonly name: string;
  /** Key in the property bag of an MQTT topic (contract/device-mqtt.md, 4). */
  readonly topicKey: string;
}

export const SYSTEM_PROPERTIES: readonly SystemPropertyRow[] = [
  { field: 'messageId', name: 'message-id', topicKey: '$.mid' },
  { field: 'correlationId', name: 'correlation-id', topicKey: '$.cid' },
  { field: 'userId', name: 'user-id', topicKey: '$.uid' },
  { field: 'to', name: 'to', topicKey: '$.to' },
  { field: 'absoluteExpiryTime', name: 'absolute-expiry-time', topicKey: '$.exp' },
  { field: 'contentType', name: 'content-type', topicKey: '$.ct' },
  { field: 'contentEncoding', name: 'content-encoding', topicKey: '$.ce' },
  { field: 'creationTimeUtc', name: 'iothub-creation-time-utc', topicKey: '$.ctime' },
  { field: 'messageSchema', name: 'iothub-message-schema', topicKey: '$.schema' },
  { field: 'componentName', name: 'dt-subject', topicKey: '$.sub' },
  { field: 'diagnosticId', name: 'Diagnostic-Id', topicKey: '$.diagid' },
  { field: 'correlationContext', name: 'Correlation-Context', topicKey: '$.diagctx' },
];
