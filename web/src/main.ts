import { createPinia } from 'pinia'
import { createApp } from 'vue'
import App from '@/App.vue'
import { router } from '@/router'
import '@/elements'
import '@/styles/tokens.css'
import '@/styles/base.css'
import '@/styles/billing.css'
import '@/styles/print.css'

createApp(App).use(createPinia()).use(router).mount('#app')
