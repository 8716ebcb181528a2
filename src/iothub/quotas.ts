// The limits of Azure IoT Hub (contract/service-13-quotas.md, section 3; contract/device-semantics.md). KB = 1024 bytes.

export const QUOTAS = {
  /** Body, property names and values of one device-to-cloud message; also of a batch over HTTPS. */
  device_message_bytes: 256 * 1024,
  /** A cloud-to-device message, and how many wait for one device. */
  command_bytes: 64 * 1024,
  command_queue: 50,
  /** Payload of a direct method, each way. */
  method_bytes: 128 * 1024,
  modules_per_device: 50,
  identities_per_bulk: 100,
  /** Devices of one page of the list. */
  devices_per_page: 1000,
  policies: 16,
  certificate_authorities: 25,
  consumer_groups: 20,
  /** MQTT filters that one device may have at a time. */
  mqtt_subscriptions: 5,
  /** Receivers without epoch on one partition of one consumer group. */
  partition_receivers: 5,
  /** The longest that an MQTT client may be silent: 29.45 min. */
  keep_alive_max_ms: 1_767_000,
} as const;
