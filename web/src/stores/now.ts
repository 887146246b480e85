/** The present second, one timer for all screens. */
import { ref } from 'vue'

export const now = ref(Date.now())
setInterval(() => {
  now.value = Date.now()
}, 1000)
