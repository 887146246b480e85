/** Which page is at which address, and who may open it. */
import { createRouter, createWebHistory } from 'vue-router'
import { asProblem } from '@/api/problem'
import { useSession } from '@/stores/session'

declare module 'vue-router' {
  interface RouteMeta {
    /** A page for everybody with the address: no login, no shell. */
    open?: boolean
    /** The permission without which the page has nothing to show; of several, one is enough. */
    needs?: string | readonly string[]
    bare?: boolean
    /** The page takes what a scanner reads itself. */
    scans?: boolean
  }
}

export const router = createRouter({
  history: createWebHistory(),
  scrollBehavior: (_to, _from, saved) => saved ?? { top: 0 },
  routes: [
    { path: '/', name: 'home', component: () => import('@/pages/HomePage.vue') },
    { path: '/login', name: 'login', component: () => import('@/pages/LoginPage.vue'), meta: { open: true } },
    { path: '/queue/:token?', name: 'queue', component: () => import('@/pages/QueuePage.vue'), meta: { open: true } },
    { path: '/beds', name: 'beds', component: () => import('@/pages/HospitalPage.vue'), meta: { needs: 'beds:read' } },
    {
      path: '/wards/:ward',
      name: 'ward',
      component: () => import('@/pages/WardPage.vue'),
      props: true,
      meta: { needs: 'beds:read' },
    },
    { path: '/wards', name: 'wards', component: () => import('@/pages/WardsPage.vue'), meta: { needs: 'beds:read' } },
    { path: '/desk', name: 'desk', component: () => import('@/pages/DeskPage.vue'), meta: { needs: 'beds:assign' } },
    { path: '/print', name: 'print', component: () => import('@/pages/PrintPage.vue'), meta: { needs: 'beds:read' } },
    {
      path: '/bedside/:encounterId?',
      name: 'bedside',
      component: () => import('@/pages/BedsidePage.vue'),
      props: true,
      meta: { needs: 'accounts:read', scans: true },
    },
    {
      path: '/accounts/:encounterId?',
      name: 'accounts',
      component: () => import('@/pages/AccountPage.vue'),
      props: true,
      meta: { needs: 'accounts:read', scans: true },
    },
    {
      path: '/billing',
      name: 'billing',
      component: () => import('@/pages/WorklistPage.vue'),
      meta: { needs: ['settlements:settle', 'reconciliation:manage'], scans: true },
    },
    {
      path: '/shift',
      name: 'shift',
      component: () => import('@/pages/ShiftPage.vue'),
      meta: { needs: ['deposits:take', 'reconciliation:manage'] },
    },
    {
      path: '/reconciliation',
      name: 'reconciliation',
      component: () => import('@/pages/ReconciliationPage.vue'),
      meta: { needs: 'reconciliation:manage' },
    },
    { path: '/prices', name: 'prices', component: () => import('@/pages/PricesPage.vue'), meta: { open: true } },
    { path: '/:rest(.*)*', name: 'lost', component: () => import('@/pages/LostPage.vue') },
  ],
})

router.beforeEach(async (to) => {
  if (to.meta.open) return true
  const session = useSession()
  if (!session.isKnown) {
    try {
      if (!(await session.resume())) return { name: 'login', query: { to: to.fullPath } }
    } catch (error) {
      return { name: 'login', query: { to: to.fullPath, problem: asProblem(error).code } }
    }
  }
  if (to.meta.needs && ![to.meta.needs].flat().some((one) => session.may(one))) return { name: 'home' }
  return true
})
