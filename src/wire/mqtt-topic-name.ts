// Topics that may be published on in MQTT.

/** MQTT 3.1.1, 1.5.3: a UTF-8 string has at most this many bytes. */
export const TOPIC_MAX_BYTES = 65_535;
/** Levels that a topic may have; deeper ones are refused by the broker library as well. */
export const TOPIC_MAX_LEVELS = 32;

/** Whether a message may have this topic: no wildcards, no U+0000, at least one character (3.3.2-2, 4.7.3). */
export function isTopicName(topic: string): boolean {
  return (
    topic !== '' &&
    !/[+#\0]/.test(topic) &&
    topic.isWellFormed() &&
    topic.split('/', TOPIC_MAX_LEVELS + 1).length <= TOPIC_MAX_LEVELS &&
    Buffer.byteLength(topic) <= TOPIC_MAX_BYTES
  );
}
