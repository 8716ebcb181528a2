// Faults on request, as the vendor's own tests of its SDKs ask for them: a telemetry message with these properties makes the hub
// drop the connection. Off unless the hub is configured for it.

/** Over MQTT the service knows these two; what is for AMQP has no effect. */
export type ConnectionFault = 'KillTcp' | 'ShutDownMqtt';

export interface FaultRequest {
  readonly fault: ConnectionFault;
  readonly delayMs: number;
}

const MAX_DELAY_SECS = 3600;

/** Undefined for a message that asks for none. */
export function faultRequest(properties: Readonly<Record<string, string>>): FaultRequest | undefined {
  const fault = properties['AzIoTHub_FaultOperationType'];
  if (fault !== 'KillTcp' && fault !== 'ShutDownMqtt') return undefined;
  const delaySecs = Number(properties['AzIoTHub_FaultOperationDelayInSecs'] ?? 0);
  const isDelay = delaySecs >= 0 && delaySecs <= MAX_DELAY_SECS;
  return { fault, delayMs: isDelay ? delaySecs * 1000 : 0 };
}
